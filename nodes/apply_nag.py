"""The node that gives both experts a negative prompt at cfg 1."""

from __future__ import annotations

from comfy_api.latest import io

from .engine.relay.attention_guidance import apply_nag


class ApplyNag(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_ApplyNag",
            display_name="Wan Relay: Apply NAG",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it found, in the history
            description=(
                "Makes the negative prompt work at cfg 1: normalised attention guidance in the cross-attention of both "
                "experts, for about a hundredth of a step's time. Off wherever an expert's cfg is not 1."
            ),
            search_aliases=["nag", "normalized attention guidance", "wan video nag", "negative prompt at cfg 1"],
            inputs=[
                io.Model.Input("high_noise", tooltip="The high-noise expert, after its LoRAs."),
                io.Model.Input(
                    "low_noise", optional=True, tooltip="The low-noise expert; leave unconnected for TI2V-5B."
                ),
                io.Conditioning.Input("negative", tooltip="What the video should not show; only its text is used."),
                io.Float.Input(
                    "scale",
                    default=11.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How far to move away from the negative prompt: 11 is usual; 0 is off, and so is 1.",
                ),
                io.Float.Input(
                    "alpha",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The share of the guided attention in the result.",
                ),
                io.Float.Input(
                    "tau",
                    default=2.37,
                    min=1.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much larger than before the guided attention may become.",
                ),
                io.Float.Input(
                    "end_sigma",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Below this noise level it is off; 0 keeps it on to the end.",
                ),
            ],
            outputs=[
                io.Model.Output("high_noise", display_name="high_noise", tooltip="The high-noise expert with NAG."),
                io.Model.Output("low_noise", display_name="low_noise", tooltip="The low-noise expert with NAG."),
            ],
        )

    @classmethod
    def execute(cls, high_noise, negative, scale, alpha, tau, end_sigma=0.0, low_noise=None) -> io.NodeOutput:
        warnings: list[str] = []
        models = []
        for slot, model in (("high_noise", high_noise), ("low_noise", low_noise)):
            if model is not None:
                model, said = apply_nag(model, negative, scale, alpha, tau, end_sigma, slot)
                warnings += [sentence for sentence in said if sentence not in warnings]
            models.append(model)
        return io.NodeOutput(*models, ui={"wan_relay": [{"warnings": warnings}]})
