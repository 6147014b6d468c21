"""The node that runs both experts in one sampler run."""

from __future__ import annotations

import json

from comfy_api.latest import io

from . import sampling_inputs
from .engine.relay.flow_solvers import sampler_names
from .engine.relay.relay_run import RelaySettings, run_relay
from .engine.relay.sigma_schedule import SWITCH_MODES


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_Sample",
            display_name="Wan Relay: Sample",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            description=(
                "Samples a video latent with both Wan2.2 experts in one sampler run: the high-noise expert down to the "
                "boundary, the low-noise expert below it. Solver history and noise carry over, as in the Wan2.2 "
                "reference."
            ),
            search_aliases=["wan2.2", "wan moe ksampler", "two stage ksampler", "high low noise", "dual sampler"],
            inputs=[
                *sampling_inputs.experts(),
                *sampling_inputs.conditioning(),
                io.Latent.Input("latent", tooltip="The empty video latent from Prepare Latent, or one to refine."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed with the same inputs gives the same video.",
                ),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=1,
                    max=200,
                    tooltip="Steps of both experts together: 4 for distilled models, 20 to 40 for base models.",
                ),
                *sampling_inputs.guidance(),
                io.Combo.Input(
                    "sampler",
                    options=sampler_names(),
                    default="euler",
                    tooltip="flow_unipc and flow_dpm++ are the Wan2.2 reference's own solvers; euler suits 4 steps.",
                ),
                sampling_inputs.scheduler(),
                sampling_inputs.shift(
                    "Moves steps towards high noise: 5 for I2V, 12 for base T2V. 0 keeps the models' own."
                ),
                *sampling_inputs.hand_over(
                    "The number of high-noise steps when switch is 'step': 2 of 4 for distilled models."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Below 1 keeps part of the latent that comes in, and starts at a lower noise level.",
                ),
                sampling_inputs.opening(),
            ],
            outputs=[
                io.Latent.Output("latent", tooltip="The finished latent, for a VAE decoder."),
                io.String.Output(
                    "report",
                    tooltip="JSON: sigmas, the step of the switch, the seed, seconds per expert, warnings.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, switch: str | None = None, switch_step: int | None = None, steps: int | None = None
    ) -> bool | str:
        """Refuses a switch_step beyond the steps at queue time. None is a value that a link brings later, or that
        was not sent; ComfyUI itself names those, and the ones that are not numbers."""
        if not all(isinstance(value, int | None) for value in (switch_step, steps)):
            return True
        if switch is not None and switch not in SWITCH_MODES:
            return f"switch must be 'boundary' or 'step', not {switch!r}."
        if steps is not None and not 1 <= steps <= 200:
            return f"steps must be between 1 and 200, not {steps}."
        if switch_step is not None and not 0 <= switch_step <= 200:
            return f"switch_step must be between 0 and 200, not {switch_step}."
        if switch == "step" and steps is not None and switch_step is not None and switch_step > steps:
            return f"switch_step must be between 0 and the number of steps, which is {steps}, not {switch_step}."
        return True

    @classmethod
    def execute(
        cls,
        high_noise,
        positive,
        negative,
        latent,
        seed,
        steps,
        high_noise_cfg,
        low_noise_cfg,
        sampler,
        scheduler,
        shift,
        switch,
        boundary,
        switch_step,
        denoise=1.0,
        low_noise=None,
        opening=None,
    ) -> io.NodeOutput:
        settings = RelaySettings(
            seed=seed,
            steps=steps,
            high_noise_cfg=high_noise_cfg,
            low_noise_cfg=low_noise_cfg,
            sampler=sampler,
            scheduler=scheduler,
            shift=shift,
            switch=switch,
            boundary=boundary,
            switch_step=switch_step,
            denoise=denoise,
        )
        sampled, report = run_relay(high_noise, low_noise, positive, negative, latent, settings, opening or ())
        return io.NodeOutput(sampled, json.dumps(report), ui={"wan_relay": [report]})
