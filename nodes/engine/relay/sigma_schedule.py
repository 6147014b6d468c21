"""Sigma schedules: ComfyUI's through ComfyUI, the Wan2.2 reference's by us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import comfy.model_sampling
import comfy.samplers
import torch

from ...rules.errors import InvalidInput
from ...rules.relay.legs import End, LegRoute, route_of
from ...rules.relay.official_schedules import OFFICIAL_SCHEDULES, official_dpmpp_sigmas, official_unipc_sigmas

COMFYUI_WAN_SHIFT = 8.0
"""The shift of every Wan2.2 model in ComfyUI until a node changes it."""

SWITCH_MODES = ("boundary", "step")
MAX_FULL_STEPS = 20_000  # of the schedule that `denoise` keeps the end of


class FlowSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """What ComfyUI's ModelSamplingSD3 node puts on a MODEL: a flow-matching noise schedule with a shift."""


def scheduler_names() -> list[str]:
    return [*comfy.samplers.SCHEDULER_NAMES, *OFFICIAL_SCHEDULES]


def sampling_with_shift(shift: float, original: Any = None) -> FlowSampling:
    """A flow schedule with `shift`; `original`, a model's own, lends its noise scale."""
    sampling = FlowSampling()
    sampling.set_parameters(shift=shift, multiplier=1000)
    sampling.set_noise_scale(getattr(original, "noise_scale", 1.0))
    return sampling


def shift_of(model_sampling: Any) -> float | None:
    """The shift of a flow model's schedule; None for a schedule of another kind."""
    shift = getattr(model_sampling, "shift", None)
    return None if shift is None else float(shift)


def make_sigmas(model_sampling: Any, scheduler: str, sampler: str, steps: int, denoise: float = 1.0) -> torch.Tensor:
    """The sigmas (steps + 1, float32) that ComfyUI's KSampler would run.

    Samplers whose last step would be wasted lose the second-to-last sigma of a schedule one step longer, and
    `denoise` below 1 keeps the end of a longer schedule, both as KSampler does. denoise 0 gives no sigma at all. A
    schedule that is finer than the model's noise levels repeats some, and these steps, which do nothing, are left out.
    Raises InvalidInput for an unknown scheduler, steps below 1, and what a scheduler cannot make.
    """
    if scheduler not in scheduler_names():
        raise InvalidInput(f"scheduler must be one of {', '.join(scheduler_names())}, not {scheduler!r}.")
    if steps < 1:
        raise InvalidInput(f"steps must be at least 1, not {steps}.")
    if denoise <= 0.0:
        return torch.FloatTensor([])
    if denoise > 0.9999:
        sigmas = _full_sigmas(model_sampling, scheduler, sampler, steps)
    elif steps / denoise <= MAX_FULL_STEPS:
        sigmas = _full_sigmas(model_sampling, scheduler, sampler, int(steps / denoise))[-(steps + 1) :]
    else:
        raise InvalidInput(f"denoise must be at least {steps / MAX_FULL_STEPS:g} for {steps} steps, not {denoise:g}.")
    if not sigmas.isfinite().all():
        raise InvalidInput(f"scheduler {scheduler} cannot make {steps} steps: choose another scheduler or more steps.")
    return sigmas.unique_consecutive()


def _full_sigmas(model_sampling: Any, scheduler: str, sampler: str, steps: int) -> torch.Tensor:
    if sampler not in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS:
        return _scheduler_sigmas(model_sampling, scheduler, steps)
    sigmas = _scheduler_sigmas(model_sampling, scheduler, steps + 1)
    return torch.cat([sigmas[:-2], sigmas[-1:]])


def _scheduler_sigmas(model_sampling: Any, scheduler: str, steps: int) -> torch.Tensor:
    if scheduler in OFFICIAL_SCHEDULES:
        shift = shift_of(model_sampling)
        if shift is None:
            raise InvalidInput(f"scheduler {scheduler} needs a flow model with a shift, such as Wan2.2.")
        official = official_unipc_sigmas if scheduler == "official_unipc" else official_dpmpp_sigmas
        return torch.FloatTensor(official(steps, shift))
    return comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps)


def make_route(
    sigmas: list[float],
    switch: str,
    boundary: float,
    switch_step: int,
    opening_steps: Sequence[int] = (),
    num_experts: int = 2,
) -> LegRoute:
    """The route of a run over `sigmas`: the opening legs, then the high-noise expert, then the low-noise one.

    Raises InvalidInput for values that cannot be meant.
    """
    steps = max(len(sigmas) - 1, 0)
    ends = [End(step=sum(opening_steps[: index + 1])) for index in range(len(opening_steps))]
    if sigmas and sum(opening_steps) > steps:
        raise InvalidInput(f"opening takes {sum(opening_steps)} steps, and the schedule has {steps}.")
    if num_experts == 2:
        ends.append(_end_of_high_noise(steps if sigmas else None, switch, boundary, switch_step))
    return route_of(sigmas, ends)


def _end_of_high_noise(steps: int | None, switch: str, boundary: float, switch_step: int) -> End:
    """steps: None for a schedule without a sigma (denoise 0), which runs whatever the switch is."""
    if switch == "boundary":
        if not 0.0 <= boundary <= 1.0:
            raise InvalidInput(f"boundary must be between 0 and 1, not {boundary:g}.")
        return End(boundary=boundary)
    if switch == "step":
        if steps is None:
            return End(step=0)
        if not 0 <= switch_step <= steps:
            raise InvalidInput(
                f"switch_step must be between 0 and the number of steps, which is {steps}, not {switch_step}."
            )
        return End(step=switch_step)
    raise InvalidInput(f"switch must be 'boundary' or 'step', not {switch!r}.")


NOTES = {
    "ignores_shift": "The linear_quadratic scheduler ignores shift.",
    "all_high": "Every step is the high-noise expert's; the low-noise expert is not used.",
    "all_low": "Every step is the low-noise expert's; the high-noise expert is not used.",
    "no_high": "The opening legs take every step of the high-noise expert, which is not used.",
    "no_low": "No step is left for the low-noise expert, which is not used.",
    "own_shift": "Shift 0 keeps the models' own; shown with ComfyUI's default of {shift:g}.",
}
"""Sentences about schedules that work but may surprise."""


def schedule_notes(route: LegRoute, scheduler: str, shift: float, num_opening: int, num_experts: int) -> list[str]:
    """Keys of NOTES that hold for a run over so many opening legs and experts, 1 or 2."""
    notes = []
    if scheduler == "linear_quadratic" and shift > 0:
        notes.append("ignores_shift")
    if route.starts and num_opening and not route.steps_of(num_opening):
        notes.append("no_high")
    if route.starts and num_experts == 2 and not route.steps_of(num_opening + 1):
        notes.append("no_low" if num_opening else "all_high")
    elif route.starts and num_experts == 2 and not num_opening and not route.steps_of(0):
        notes.append("all_low")
    return notes


def first_low_step(route: LegRoute, num_opening: int) -> int:
    """The number of steps before the low-noise expert; all of them where it has none."""
    return sum(leg <= num_opening for leg in route.starts)


class SchedulePlan(TypedDict):
    """steps + 1 sigmas, and which of the steps are whose."""

    sigmas: list[float]
    switch_step: int  # the first low-noise step
    n_opening: list[int]  # of each opening leg
    n_high: int
    n_low: int
    boundary: float
    switch: str
    warnings: list[str]
    notes: list[dict[str, Any]]  # the warnings as keys of NOTES, for the panel to say in the user's language


def plan_schedule(
    steps: int,
    scheduler: str,
    sampler: str,
    shift: float,
    denoise: float = 1.0,
    switch: str = "boundary",
    boundary: float = 0.9,
    switch_step: int = 2,
    opening_steps: Sequence[int] = (),
    num_experts: int = 2,
) -> SchedulePlan:
    """What `WanRelay_Sample` would run, without a model: for the plot in the graph editor.

    Shift 0 means the models' own, which is not known here: ComfyUI's default for Wan is shown and said in a warning.
    """
    sigmas = make_sigmas(sampling_with_shift(shift or COMFYUI_WAN_SHIFT), scheduler, sampler, steps, denoise).tolist()
    num_opening = len(opening_steps)
    route = make_route(sigmas, switch, boundary, switch_step, opening_steps, num_experts)
    notes = schedule_notes(route, scheduler, shift, num_opening, num_experts) + (["own_shift"] if shift == 0 else [])
    values = {"shift": COMFYUI_WAN_SHIFT}
    return {
        "sigmas": sigmas,
        "switch_step": first_low_step(route, num_opening),
        "n_opening": [route.steps_of(leg) for leg in range(num_opening)],
        "n_high": route.steps_of(num_opening),
        "n_low": route.steps_of(num_opening + 1),
        "boundary": boundary,
        "switch": switch,
        "warnings": [NOTES[note].format(**values) for note in notes],
        "notes": [{"note": note, **values} for note in notes],
    }
