"""The node that gives the first steps of a run to a leg of their own."""

from __future__ import annotations

from comfy_api.latest import io

from .engine.relay.opening_leg import OpeningLeg
from .sampling_inputs import OpeningLegs


class OpeningLegNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_OpeningLeg",
            display_name="Wan Relay: Opening Leg",
            category="wan relay",
            description=(
                "The first steps of a run with a model, guidance or prompts of their own, in the same sampler run: the "
                "high-noise expert without its 4-step LoRA lays out more motion. Several can be chained."
            ),
            search_aliases=[
                "triple ksampler",
                "three samplers",
                "slow motion",
                "more motion",
                "first step without lora",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model of these steps: the high-noise expert without its LoRA."),
                io.Int.Input("steps", default=1, min=1, max=200, tooltip="How many of the run's steps it takes."),
                io.Float.Input(
                    "cfg",
                    default=3.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of these steps: 3.5 for a base I2V model. Above 1 a step costs twice as much.",
                ),
                io.Conditioning.Input("positive", optional=True, tooltip="A prompt for these steps, if not the run's."),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="A negative prompt for these steps, if not the run's."
                ),
                OpeningLegs.Input("previous", optional=True, tooltip="An Opening Leg whose steps come before these."),
            ],
            outputs=[OpeningLegs.Output("opening", tooltip="For the opening input of Sample or Guider.")],
        )

    @classmethod
    def execute(cls, model, steps, cfg, positive=None, negative=None, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*(previous or ()), OpeningLeg(model, steps, cfg, positive, negative)))
