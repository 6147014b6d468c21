"""The node that gives both experts as one GUIDER."""

from __future__ import annotations

from comfy_api.latest import io

from .engine.model_kind import check_image, check_models
from .engine.relay_run import make_guider
from .engine.schedule import SWITCH_MODES


class Guider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_Guider",
            display_name="Wan Relay: Guider",
            category="wan relay",
            description=(
                "Both Wan2.2 experts as one guider for SamplerCustomAdvanced, with any sampler and sigmas: the "
                "high-noise expert answers down to the boundary, the low-noise expert below it."
            ),
            search_aliases=["wan2.2 guider", "dual model guider", "high low noise guider"],
            inputs=[
                io.Model.Input("high_noise", tooltip="The high-noise expert, or the whole TI2V-5B model."),
                io.Model.Input(
                    "low_noise", optional=True, tooltip="The low-noise expert. Leave it empty for TI2V-5B only."
                ),
                io.Conditioning.Input("positive", tooltip="What the video should show, with the start or end image."),
                io.Conditioning.Input(
                    "negative", tooltip="What it should not show. An expert with cfg 1 does not look at it."
                ),
                io.Float.Input(
                    "high_noise_cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the high-noise expert: 1 for distilled models, 3.5 for base I2V models.",
                ),
                io.Float.Input(
                    "low_noise_cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of the low-noise expert: 1 for distilled models, 3.5 for base I2V models.",
                ),
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
                io.Int.Input(
                    "switch_step",
                    default=2,
                    min=0,
                    max=200,
                    tooltip="The number of high-noise steps when switch is 'step', in the sigmas that are sampled.",
                ),
                io.Float.Input(
                    "shift",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="The shift of both models while they sample. 0 keeps the models' own.",
                ),
            ],
            outputs=[io.Guider.Output("guider", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        high_noise,
        positive,
        negative,
        high_noise_cfg,
        low_noise_cfg,
        switch,
        boundary,
        switch_step,
        shift,
        low_noise=None,
    ) -> io.NodeOutput:
        check_image(check_models(high_noise, low_noise), positive)
        guider = make_guider(
            high_noise,
            low_noise,
            positive,
            negative,
            high_noise_cfg,
            low_noise_cfg,
            switch,
            boundary,
            switch_step,
            shift,
        )
        return io.NodeOutput(guider, ui={"wan_relay": [{"warnings": []}]})
