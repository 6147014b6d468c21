"""Frames in between: by ComfyUI's own node where there is a model, else by FFmpeg."""

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_patcher
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.interpolated_frames import interpolated_count
from .motion_interpolation import between_by_motion
from .video_file import check_images

MINTERPOLATE = "minterpolate"
NETWORKS = {"FILMNet": "film", "IFNet": "rife"}


def method_of(model: comfy.model_patcher.ModelPatcher | None) -> str:
    """`film`, `rife` or `minterpolate`; of another network its class's name."""
    if model is None:
        return MINTERPOLATE
    name = type(model.model).__name__
    return NETWORKS.get(name, name)


def interpolate(
    images: torch.Tensor, factor: int, model: Any = None, on_steps: Callable[[int], None] = lambda done: None
) -> torch.Tensor:
    """[factor * (frames - 1) + 1, height, width, 3] out of `images` [frames, height, width, 3], which all stay.

    `model` is what core's Load Frame Interpolation Model gives. Raises InvalidInput.
    """
    check_images(images)
    if images.shape[3] != 3:
        raise InvalidInput(f"images must have 3 channels; got {images.shape[3]}.")
    if interpolated_count(len(images), factor) == len(images):
        return images
    if model is None:
        return between_by_motion(images, factor, on_steps)
    from comfy_extras.nodes_frame_interpolation import FrameInterpolate  # only where its loader made a model

    (frames,) = FrameInterpolate.execute(model, images, factor).args
    made: torch.Tensor = frames
    return made


def interpolate_videos(
    images: torch.Tensor,
    videos: Sequence[slice],
    factor: int,
    model: Any = None,
    on_steps: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """The frames of `videos`, each interpolated alone, one video after the other; all are of one length."""
    if len(videos) == 1:
        return interpolate(images, factor, model, on_steps)
    num_frames = len(images) // len(videos)
    count = interpolated_count(num_frames, factor)
    result = images.new_empty((len(videos) * count, *images.shape[1:]))
    for number, video in enumerate(videos):

        def on_steps_of_all(done: int, before: int = number * (num_frames - 1)) -> None:
            on_steps(before + done)

        result[number * count : (number + 1) * count] = interpolate(images[video], factor, model, on_steps_of_all)
    return result
