"""Start and end images -> what a Wan2.2 model is told about the frames that are already known."""

from dataclasses import dataclass

import comfy.latent_formats
import comfy.model_management
import comfy.sd
import node_helpers
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.frame_count import FRAMES_PER_LATENT, latent_frames, whole_frames
from .resize_image import fit_frames
from .wan_vae import WanVae

GREY = 0.5  # zero in the network's range of -1 to 1, as in the reference


@dataclass(frozen=True)
class Clip:
    """The frames to be made: `width` x `height` pixels, `length` = 4n+1 frames, `batch_size` videos."""

    width: int
    height: int
    length: int
    batch_size: int
    fit: str

    def empty_latent(self, kind: WanVae, batch_size: int) -> torch.Tensor:
        """Zeros of [batch_size, channels, latent frames, height / stride, width / stride]."""
        shape = (
            batch_size,
            kind.latent_channels,
            latent_frames(self.length),
            self.height // kind.stride,
            self.width // kind.stride,
        )
        return torch.zeros(shape, device=comfy.model_management.intermediate_device())

    def canvas(self, frames: int) -> torch.Tensor:
        """Grey pixels of [frames, height, width, 3]."""
        return torch.full((frames, self.height, self.width, 3), GREY, dtype=comfy.model_management.intermediate_dtype())


def count_frames(images: torch.Tensor | None) -> int:
    return 0 if images is None else len(images)


def choose_known_frames(
    start: torch.Tensor | None, end: torch.Tensor | None, length: int
) -> tuple[torch.Tensor | None, torch.Tensor | None, list[str]]:
    """The start frames and end frames that fit into `length`, and what was left out, in sentences.

    Raises InvalidInput where start and end frames would overlap.
    """
    n_start, n_end = count_frames(start), count_frames(end)
    if n_start and n_end and n_start + n_end > length:
        raise InvalidInput(
            f"length {length} must hold start_image and end_image, but they have {n_start} and {n_end} frames."
        )
    warnings = []
    if start is not None and n_start > length:
        start = start[:length]
        warnings.append(f"start_image has {n_start} frames; the first {length} are used.")
    if end is not None and n_end > length:
        end = end[-length:]
        warnings.append(f"end_image has {n_end} frames; the last {length} are used.")
    if max(n_start, n_end, n_start + n_end) >= length > 1:
        warnings.append("Every frame is given, so nothing is left for the model to make.")
    return start, end, warnings


def known_frames_mask(n_start: int, n_end: int, clip: Clip, kind: WanVae) -> torch.Tensor:
    """ComfyUI's concat_mask [1, 4, T, h, w], 0 = known; the network sees it inverted, 1 = known.

    The channel is the pixel frame inside the latent frame. Pixel frame 0 fills all four channels of latent
    frame 0, so frame i > 0 sits at place i + 3, and a single end image in channel 3 of the last latent frame.
    """
    places = latent_frames(clip.length) * FRAMES_PER_LATENT
    unknown = torch.ones(places)
    if n_start:
        unknown[: n_start + FRAMES_PER_LATENT - 1] = 0
    if n_end:
        unknown[places - n_end :] = 0
    mask = unknown.view(1, -1, FRAMES_PER_LATENT, 1, 1).transpose(1, 2)
    return mask.repeat(1, 1, 1, clip.height // kind.stride, clip.width // kind.stride)


def condition_on_images(
    positive: list,
    negative: list,
    vae: comfy.sd.VAE,
    kind: WanVae,
    start: torch.Tensor | None,
    end: torch.Tensor | None,
    clip: Clip,
) -> tuple[list, list, dict]:
    """A14B: both conditionings with concat_latent_image [1, 16, T, h, w] and concat_mask, and an empty latent.

    `start` and `end` are RGB frames [N, H, W, 3]. Unknown frames are grey. The latent stays raw: ComfyUI
    normalises it in the model. Without images the conditionings come back as they are (text to video).
    """
    latent = {"samples": clip.empty_latent(kind, clip.batch_size)}
    if start is None and end is None:
        return positive, negative, latent

    frames = clip.canvas(clip.length)
    if start is not None:
        fit_frames(start, frames[: len(start)], clip.fit)
    if end is not None:
        fit_frames(end, frames[-len(end) :], clip.fit)
    known = {
        "concat_latent_image": vae.encode(frames),
        "concat_mask": known_frames_mask(count_frames(start), count_frames(end), clip, kind),
    }
    return (
        node_helpers.conditioning_set_values(positive, known),
        node_helpers.conditioning_set_values(negative, known),
        latent,
    )


def latent_with_start(
    vae: comfy.sd.VAE, kind: WanVae, start: torch.Tensor | None, clip: Clip
) -> tuple[dict, list[str]]:
    """TI2V-5B: a latent [B, 48, T, h, w] whose first frames are `start`, and a noise_mask [B, 1, T, h, w], 0 = kept.

    Without `start` it is the empty latent (text to video). Unknown frames hold what ComfyUI normalises to zero.
    """
    if start is None:
        return {"samples": clip.empty_latent(kind, clip.batch_size)}, []
    warnings = []
    n_kept = whole_frames(len(start))
    if n_kept != len(start):
        warnings.append(
            f"start_image has {len(start)} frames; the VAE packs 1, 5, 9 ..., so the first {n_kept} are used."
        )
    frames = clip.canvas(n_kept)
    fit_frames(start[:n_kept], frames, clip.fit)
    encoded = vae.encode(frames)
    samples = comfy.latent_formats.Wan22().process_out(clip.empty_latent(kind, 1))
    samples[:, :, : encoded.shape[2]] = encoded
    noise_mask = torch.ones_like(samples[:, :1])
    noise_mask[:, :, : encoded.shape[2]] = 0
    repeats = (clip.batch_size, 1, 1, 1, 1)
    return {"samples": samples.repeat(repeats), "noise_mask": noise_mask.repeat(repeats)}, warnings
