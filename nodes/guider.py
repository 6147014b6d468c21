"""The node that gives both experts as one GUIDER."""

from __future__ import annotations

from comfy_api.latest import io

from . import sampling_inputs
from .engine.files.model_kind import check_images, check_models, used_conditioning
from .engine.relay.opening_leg import check_opening
from .engine.relay.relay_run import make_guider, model_warnings, models_of
from .engine.relay.run_display import show_text


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
                *sampling_inputs.experts(),
                *sampling_inputs.conditioning(),
                *sampling_inputs.guidance(),
                *sampling_inputs.hand_over(
                    "The number of high-noise steps when switch is 'step', in the sigmas that are sampled."
                ),
                sampling_inputs.shift("The shift of both models while they sample. 0 keeps the models' own."),
                sampling_inputs.opening(),
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
        opening=None,
    ) -> io.NodeOutput:
        kind = check_models(high_noise, low_noise)
        check_images(kind, used_conditioning(positive, negative, high_noise_cfg, low_noise_cfg))
        check_opening(opening or (), kind, positive, negative)
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
            opening or (),
        )
        guider.show = show_text  # core's samplers have no panel that says it, as Sample has
        warnings = model_warnings(guider, models_of(high_noise, low_noise, opening or ()), shift)
        return io.NodeOutput(guider, ui={"wan_relay": [{"warnings": warnings}]})
