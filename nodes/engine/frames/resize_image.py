"""Images of any size and channel count -> the frames of a Wan video, in float from end to end."""

import comfy.model_management
import numpy as np
import torch
from PIL import Image

from ...rules.errors import InvalidInput
from ...rules.frames.frame_size import place_image

RANGE_SLACK = 0.1  # resamplers overshoot [0, 1] a little; more than this is another range altogether


def check_image(name: str, image: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
    """The images as [N, H, W, 3] (a view where possible) and what was dropped or clamped, in sentences.

    `image` is ComfyUI's IMAGE: [N, H, W, C] floats in [0, 1] with 1 to 4 channels: grey or RGB, with or without
    alpha. Alpha is dropped, as ComfyUI's LoadImage does. Raises InvalidInput for anything else.
    """
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or not image.is_floating_point():
        got = f"{image.dtype} of {tuple(image.shape)}" if isinstance(image, torch.Tensor) else type(image).__name__
        raise InvalidInput(f"{name} must be an IMAGE, floats of [batch, height, width, channels], got {got}.")
    if 0 in image.shape:
        raise InvalidInput(f"{name} must have pixels, got {tuple(image.shape)}.")
    channels = image.shape[-1]
    if channels > 4:
        raise InvalidInput(f"{name} must have 1 to 4 channels, got {channels}.")
    colour = image[..., :1].expand(-1, -1, -1, 3) if channels < 3 else image[..., :3]
    low, high = (float(bound) for bound in torch.aminmax(colour))
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):
        raise InvalidInput(f"{name} must have values from 0 to 1, got {low:.3g} to {high:.3g}.")

    warnings = []
    if channels in (2, 4):
        warnings.append(f"{name} has an alpha channel; it is dropped and the colour is used as it is.")
    if low < -1 / 255 or high > 1 + 1 / 255:
        warnings.append(f"{name} has values from {low:.3g} to {high:.3g}; they are clamped to 0 to 1.")
    if low < 0 or high > 1:
        colour = colour.clamp(0, 1)
    return colour, warnings


def fit_frames(frames: torch.Tensor, canvas: torch.Tensor, fit: str, crop_position: str = "center") -> None:
    """Lay `frames` [N, H, W, 3] onto `canvas` [N, height, width, 3], which is written in place.

    Lanczos, antialiased, float per channel; frames of the canvas's own size are copied bit for bit.
    """
    if frames.shape == canvas.shape:
        canvas.copy_(frames)
        return
    height, width = canvas.shape[1:3]
    image_height, image_width = frames.shape[1:3]
    place = place_image(image_width, image_height, width, height, fit, crop_position)
    inner_width, inner_height = min(width, place.scaled_width), min(height, place.scaled_height)
    left, top = max(0, place.left), max(0, place.top)
    across, down = image_width / place.scaled_width, image_height / place.scaled_height
    right = min(image_width, (left + inner_width) * across)  # min: float error must not leave the image
    bottom = min(image_height, (top + inner_height) * down)
    box = (left * across, top * down, right, bottom)
    bar_left, bar_top = max(0, -place.left), max(0, -place.top)
    if fit == "pad":
        canvas.zero_()
    window = canvas[:, bar_top : bar_top + inner_height, bar_left : bar_left + inner_width]
    for source, target in zip(frames, window, strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        for channel in range(3):
            plane = Image.fromarray(source[..., channel].float().cpu().contiguous().numpy())
            scaled = plane.resize((inner_width, inner_height), Image.Resampling.LANCZOS, box=box)
            target[..., channel].copy_(torch.from_numpy(np.array(scaled)).clamp_(0, 1))
