"""The node that puts an image at a frame of the video."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .engine.frames.clip_images import Keyframe
from .frame_inputs import Keyframes


class KeyframeNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_Keyframe",
            display_name="Wan Relay: Keyframe",
            category="wan relay",
            description=(
                "An image at a frame of the video, for Prepare Latent. Several can be chained. Wan2.2 A14B learned "
                "first and last frames: one between them holds loosely."
            ),
            search_aliases=["keyframe", "middle frame", "first middle last frame", "fmlf", "image at frame"],
            inputs=[
                io.Image.Input("image", tooltip="One image, in any size. It is fitted as the start image is."),
                io.Int.Input(
                    "frame",
                    default=40,
                    min=-1025,
                    max=1024,
                    tooltip="0 is the first frame, -1 the last, -5 the fifth last. It is brought to the nearest "
                    "multiple of 4, where a latent frame ends.",
                ),
                Keyframes.Input("keyframes", optional=True, tooltip="A Keyframe whose images are given too."),
            ],
            outputs=[Keyframes.Output("keyframes", tooltip="For the keyframes input of Prepare Latent.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, frame: int, keyframes: tuple[Keyframe, ...] | None = None) -> io.NodeOutput:
        return io.NodeOutput((*(keyframes or ()), Keyframe(image, frame)))
