"""The node that makes the sigmas of a run."""

from __future__ import annotations

from comfy_api.latest import io

from . import sampling_inputs
from .engine.relay.flow_solvers import sampler_names
from .engine.relay.shifted_model import sampling_of
from .engine.relay.sigma_schedule import make_sigmas, shift_of


class Schedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_Schedule",
            display_name="Wan Relay: Schedule",
            category="wan relay",
            description=(
                "The sigmas that Wan Relay: Sample would run, for SamplerCustomAdvanced: ComfyUI's schedulers, and the "
                "two of the Wan2.2 reference."
            ),
            search_aliases=["wan2.2 scheduler", "sigmas", "basic scheduler"],
            inputs=[
                io.Model.Input("model", tooltip="Either expert; its own shift counts when shift is 0."),
                io.Int.Input("steps", default=4, min=1, max=200, tooltip="Steps of both experts together."),
                sampling_inputs.scheduler(),
                io.Combo.Input(
                    "sampler",
                    options=sampler_names(),
                    default="euler",
                    tooltip="The sampler that will run: dpm_2 and uni_pc need another last step than the rest.",
                ),
                sampling_inputs.shift(
                    "Moves steps towards high noise: 5 for I2V, 12 for base T2V. 0 takes the model's own."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 gives the end of a longer schedule, which starts at a lower noise level.",
                ),
            ],
            outputs=[io.Sigmas.Output("sigmas", tooltip="steps + 1 noise levels, from 1 down to 0.")],
        )

    @classmethod
    def execute(cls, model, steps, scheduler, sampler, shift, denoise) -> io.NodeOutput:
        sampling = sampling_of(model, shift)
        sigmas = make_sigmas(sampling, scheduler, sampler, steps, denoise)
        report = {"sigmas": sigmas.tolist(), "shift": shift_of(sampling), "warnings": []}
        return io.NodeOutput(sigmas, ui={"wan_relay": [report]})
