"""Node: larger frames, by an upscaling model."""

from typing import Any

import torch
from comfy_api.latest import io

from .engine.video.frame_progress import frame_progress
from .engine.video.upscaling import upscale
from .rules.errors import InvalidInput
from .rules.frames.upscaled_size import MAX_FACTOR, upscaled_size


class UpscaleFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_UpscaleFrames",
            display_name="Wan Relay: Upscale Frames",
            category="wan relay",
            description="Makes the frames larger with an upscaling model, one after the other: memory for the result "
            "and one frame, where core's node holds all of them at the model's scale.",
            search_aliases=["upscale", "upscaler", "esrgan", "super resolution", "enlarge", "video upscale"],
            inputs=[
                io.Image.Input("images", tooltip="The frames."),
                io.UpscaleModel.Input("upscale_model", tooltip="From Load Upscale Model, such as RealESRGAN_x2plus."),
                io.Float.Input(
                    "factor",
                    default=2.0,
                    min=1.0,
                    max=MAX_FACTOR,
                    step=0.05,
                    tooltip="Width and height times this. What the model makes is brought to it by Lanczos.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="As many frames, factor times as large."),
                io.Int.Output("width", display_name="width", tooltip="Width of the frames in pixels."),
                io.Int.Output("height", display_name="height", tooltip="Height of the frames in pixels."),
            ],
        )

    @classmethod
    def validate_inputs(cls, factor: float | None = None) -> bool | str:
        """A constant is checked before anything runs; a linked value (None here) when it arrives."""
        try:
            if isinstance(factor, float | int):
                upscaled_size(16, 16, factor)
        except InvalidInput as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, images: torch.Tensor, upscale_model: Any, factor: float) -> io.NodeOutput:
        frames = upscale(images, upscale_model, factor, frame_progress(len(images)))
        height, width = frames.shape[1:3]
        scale = float(upscale_model.scale)
        warnings = []
        if factor > scale:
            warnings.append(f"the model's scale is {scale:g}; the rest to {factor:g} is Lanczos, which adds no detail.")
        details = {"width": width, "height": height, "factor": factor, "model_scale": scale, "warnings": warnings}
        return io.NodeOutput(frames, width, height, ui={"wan_relay": [details]})
