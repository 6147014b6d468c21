"""Node: frames in between, and the frame rate that goes with them."""

from typing import Any

import torch
from comfy_api.latest import io

from .engine.video.frame_interpolation import interpolate_videos, method_of
from .engine.video.frame_progress import frame_progress
from .engine.video.video_file import check_images
from .engine.video.video_format import frame_rate
from .frame_inputs import videos_input
from .rules.errors import InvalidInput
from .rules.frames.batch_videos import frames_of_videos
from .rules.frames.frame_count import MAX_FPS
from .rules.frames.interpolated_frames import MAX_FACTOR, interpolated_rate


class InterpolateFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_InterpolateFrames",
            display_name="Wan Relay: Interpolate Frames",
            category="wan relay",
            description="Cuts each step between two frames into equal pieces: with a FILM or RIFE model, or without "
            "one by FFmpeg's motion interpolation on the CPU. The frame rate comes out with the frames.",
            search_aliases=["interpolate", "frame interpolation", "film", "rife", "minterpolate", "smooth", "fps"],
            inputs=[
                io.Image.Input("images", tooltip="The frames. All of them stay; the new ones come between them."),
                io.Int.Input(
                    "factor",
                    default=2,
                    min=1,
                    max=MAX_FACTOR,
                    tooltip="Pieces of a step: 2 puts one frame between two, so that 81 frames become 161.",
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=1.0,
                    max=120.0,
                    step=0.001,
                    tooltip="Frames per second of images. Wan2.2 A14B makes 16, TI2V-5B 24.",
                ),
                io.Custom("INTERP_MODEL").Input(
                    "model",
                    optional=True,
                    tooltip="FILM or RIFE, from Load Frame Interpolation Model. Without it FFmpeg's minterpolate runs.",
                ),
                videos_input("Each is interpolated alone."),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="images",
                    tooltip="factor x (frames - 1) + 1 frames, of each video; first and last stay.",
                ),
                io.Float.Output(
                    "fps",
                    display_name="fps",
                    tooltip="fps x factor, for Save Video: the same pace. Not linked, the video is slow motion.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, factor: int | None = None, fps: float | None = None) -> bool | str:
        """Constants are checked before anything runs; a linked value (None here) when it arrives."""
        try:
            if isinstance(factor, int) and isinstance(fps, float | int):
                interpolated_rate(frame_rate(fps), factor, MAX_FPS)
        except InvalidInput as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, images: torch.Tensor, factor: int, fps: float, model: Any = None, videos: int = 1
    ) -> io.NodeOutput:
        check_images(images)
        rate = interpolated_rate(frame_rate(fps), factor, MAX_FPS)
        parts, warnings = frames_of_videos(len(images), videos)
        frames = interpolate_videos(images, parts, factor, model, frame_progress(max(1, len(images) - len(parts))))
        details = {
            "method": method_of(model) if len(frames) > len(images) else "none",
            "factor": factor,
            "fps": float(rate),
            "frame_count": len(frames),
            "warnings": warnings,
        }
        return io.NodeOutput(frames, float(rate), ui={"wan_relay": [details]})
