"""The inputs that Sample, Guider and Schedule share: one declaration of each range and tooltip."""

from __future__ import annotations

from comfy_api.latest import io

from .engine.relay.sigma_schedule import SWITCH_MODES, scheduler_names

OpeningLegs = io.Custom("WAN_RELAY_OPENING")
"""The link between Opening Leg, and Sample and Guider: a tuple of `OpeningLeg`, in the order of the run."""


def experts() -> list[io.Input]:
    return [
        io.Model.Input("high_noise", tooltip="The high-noise expert, or the whole TI2V-5B model."),
        io.Model.Input("low_noise", optional=True, tooltip="The low-noise expert. Leave it empty for TI2V-5B only."),
    ]


def conditioning() -> list[io.Input]:
    return [
        io.Conditioning.Input("positive", tooltip="What the video should show, with the start or end image."),
        io.Conditioning.Input("negative", tooltip="What it should not show. An expert with cfg 1 does not look at it."),
    ]


def guidance() -> list[io.Input]:
    return [
        io.Float.Input(
            f"{expert}_cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip=f"Guidance of the {name} expert: 1 for distilled models, 3.5 for base I2V models.",
        )
        for expert, name in (("high_noise", "high-noise"), ("low_noise", "low-noise"))
    ]


def hand_over(switch_step_tooltip: str) -> list[io.Input]:
    return [
        io.Combo.Input(
            "switch",
            options=list(SWITCH_MODES),
            default="boundary",
            tooltip="Hand over at a noise level (the reference's rule) or after a number of steps.",
        ),
        io.Float.Input(
            "boundary",
            default=0.9,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip="The lowest noise level of the high-noise expert: 0.9 for I2V, 0.875 for T2V.",
        ),
        io.Int.Input("switch_step", default=2, min=0, max=200, tooltip=switch_step_tooltip),
    ]


def scheduler() -> io.Input:
    return io.Combo.Input(
        "scheduler",
        options=scheduler_names(),
        default="simple",
        tooltip="official_unipc and official_dpm++ are the Wan2.2 reference's own schedules.",
    )


def shift(tooltip: str) -> io.Input:
    return io.Float.Input("shift", default=5.0, min=0.0, max=100.0, step=0.01, tooltip=tooltip)


def opening() -> io.Input:
    return OpeningLegs.Input(
        "opening",
        optional=True,
        tooltip="Opening Leg: the first steps with another model or guidance, before the high-noise expert.",
    )
