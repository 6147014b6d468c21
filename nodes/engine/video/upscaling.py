"""Frames through an upscaling network, one after the other, so that no more than the result is held."""

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.upscaled_size import upscaled_size
from ..frames.resize_image import fit_frames
from .video_file import check_images

TILE = 512  # pixels a side and their overlap, as core's Upscale Image (using Model) cuts them
OVERLAP = 32
SMALLEST_TILE = 128
MEMORY_A_PIXEL = 3 * 384  # bytes of the network's inside per byte of a sample and step of scale: core's estimate


def upscale(
    images: torch.Tensor, model: Any, factor: float, on_frame: Callable[[int], None] = lambda done: None
) -> torch.Tensor:
    """[frames, height * factor, width * factor, 3] out of `images` [frames, height, width, 3], values in 0 to 1.

    `model` is what core's Load Upscale Model gives; its own scale, mostly 2 or 4, is brought to `factor` by Lanczos.
    Core's node holds all frames at the model's scale at once: 81 of 1280x720 at x4 are 14 GB. Raises InvalidInput.
    """
    check_images(images)
    if images.shape[3] != 3:
        raise InvalidInput(f"images must have 3 channels; got {images.shape[3]}.")
    width, height = upscaled_size(images.shape[2], images.shape[1], factor)
    _load(model, images)
    device = comfy.model_management.intermediate_device()
    made = torch.empty((len(images), height, width, 3), dtype=images.dtype, device=device)
    tile = TILE
    for number, frame in enumerate(images):
        larger, tile = _through(model, frame, tile)
        fit_frames(larger, made[number : number + 1], "stretch")
        on_frame(number + 1)
    return made


def _load(model: Any, images: torch.Tensor) -> None:
    frame_bytes = images[0].nelement() * images.element_size()
    inside = TILE * TILE * MEMORY_A_PIXEL * images.element_size() * max(model.scale, 1)
    comfy.model_management.load_models_gpu([model.patcher], memory_required=inside + frame_bytes)


def _through(model: Any, frame: torch.Tensor, tile: int) -> tuple[torch.Tensor, int]:
    """[1, scale * height, scale * width, 3] in 0 to 1, and the tile that fitted into the memory."""
    sample = frame[None].movedim(-1, 1).to(model.patcher.load_device)
    while True:
        try:
            larger = comfy.utils.tiled_scale(
                sample,
                lambda part: model(part.float()),
                tile_x=tile,
                tile_y=tile,
                overlap=OVERLAP,
                upscale_amount=model.scale,
                output_device=comfy.model_management.intermediate_device(),
            )
            return larger.movedim(1, -1).clamp(0, 1), tile
        except Exception as error:
            comfy.model_management.raise_non_oom(error)
            if tile <= SMALLEST_TILE:
                raise
            tile //= 2
