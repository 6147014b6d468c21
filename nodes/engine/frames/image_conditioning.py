"""Known frames -> what a Wan2.2 model is told about them."""

import comfy.latent_formats
import comfy.sd
import node_helpers
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.frame_count import FRAMES_PER_LATENT, whole_frames
from .known_frames import Clip, KnownFrames
from .wan_vae import WanVae


def condition_on_images(
    positive: list,
    negative: list,
    vae: comfy.sd.VAE,
    kind: WanVae,
    known: KnownFrames,
    clip: Clip,
) -> tuple[list, list, dict]:
    """A14B: both conditionings with concat_latent_image [1, 16, T, h, w] and concat_mask, and an empty latent.

    Unknown frames are as `known.padding` says. The latent stays raw: ComfyUI normalises it in the model. Without known
    frames the conditionings come back as they are (text to video). Raises InvalidInput for a `known.motion` of another
    size.
    """
    latent = {"samples": clip.empty_latent(kind, clip.batch_size)}
    if not known.by_name:
        return positive, negative, latent
    told = {"concat_latent_image": _told_latent(vae, kind, known, clip), "concat_mask": known.mask(clip, kind)}
    return (
        node_helpers.conditioning_set_values(positive, told),
        node_helpers.conditioning_set_values(negative, told),
        latent,
    )


def _told_latent(vae: comfy.sd.VAE, kind: WanVae, known: KnownFrames, clip: Clip) -> torch.Tensor:
    """What the model is told of the whole clip: raw latents [B, 16, T, h, w].

    "zero" padding means zeros as the network sees them, and no latent frame without a known one is encoded. This with
    an anchor as the start, and the clip before as `known.motion` behind it, is what SVI 2.0 Pro was trained on: its
    authors' wan_video_svi_pro.py, KJNodes' WanImageToVideoSVIPro. As there, the mask does not call the motion known.
    """
    pixels = known.on_canvas(clip)
    if known.padding == "zero":
        is_known = known.known_latents(clip)
        needed = int(is_known.nonzero().max()) * FRAMES_PER_LATENT + 1
        encoded = vae.encode(pixels[:needed])
        told = comfy.latent_formats.Wan21().process_out(clip.empty_latent(kind, 1)).to(encoded)
        told[:, :, is_known] = encoded[:, :, is_known[: encoded.shape[2]]]
    else:
        told = vae.encode(pixels)
    if known.motion is not None:
        motion = known.motion if known.motion.ndim == 5 else _motion_latents(vae, known.motion, clip)
        if motion.shape[3:] != told.shape[3:]:
            size = f"{kind.stride * motion.shape[4]}x{kind.stride * motion.shape[3]}"
            raise InvalidInput(
                f"previous_latent must be of {clip.width}x{clip.height} pixels as this clip, got {size}."
            )
        if len(motion) not in (1, clip.batch_size):
            raise InvalidInput(
                f"previous_latent must have one video or batch_size {clip.batch_size}, got {len(motion)}."
            )
        told = told.repeat(len(motion), 1, 1, 1, 1)
        told[:, :, 1 : 1 + motion.shape[2]] = motion.to(told)
    return told


def _motion_latents(vae: comfy.sd.VAE, frames: torch.Tensor, clip: Clip) -> torch.Tensor:
    """[1, 16, k, h, w] of 4k+1 frames: without the first latent frame, which stands for a still picture."""
    canvas = clip.canvas(len(frames))
    clip.lay(frames, canvas)
    return vae.encode(canvas)[:, :, 1:]


def latent_with_start(vae: comfy.sd.VAE, kind: WanVae, known: KnownFrames, clip: Clip) -> tuple[dict, list[str]]:
    """TI2V-5B: a latent [B, 48, T, h, w] whose first frames are `known.start`, and a noise_mask [B, 1, T, h, w],
    0 = kept.

    Without them it is the empty latent (text to video). Unknown frames hold what ComfyUI normalises to zero.
    """
    start = known.start
    if start is None:
        return {"samples": clip.empty_latent(kind, clip.batch_size)}, []
    warnings = []
    n_kept = whole_frames(len(start))
    if n_kept != len(start):
        warnings.append(
            f"start_image has {len(start)} frames; the VAE packs 1, 5, 9 ..., so the first {n_kept} are used."
        )
    frames = clip.canvas(n_kept)
    clip.lay(start[:n_kept], frames)
    encoded = vae.encode(frames)
    samples = comfy.latent_formats.Wan22().process_out(clip.empty_latent(kind, 1))
    samples[:, :, : encoded.shape[2]] = encoded
    noise_mask = torch.ones_like(samples[:, :1])
    noise_mask[:, :, : encoded.shape[2]] = 0
    repeats = (clip.batch_size, 1, 1, 1, 1)
    return {"samples": samples.repeat(repeats), "noise_mask": noise_mask.repeat(repeats)}, warnings
