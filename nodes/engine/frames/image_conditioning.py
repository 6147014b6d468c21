"""Known frames -> what a Wan2.2 model is told about them."""

import comfy.latent_formats
import comfy.sd
import node_helpers
import torch

from ...rules.frames.frame_count import whole_frames
from .known_frames import Clip, KnownFrames
from .resize_image import fit_frames
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

    Unknown frames are grey. The latent stays raw: ComfyUI normalises it in the model. Without known frames the
    conditionings come back as they are (text to video).
    """
    latent = {"samples": clip.empty_latent(kind, clip.batch_size)}
    if not known.by_name:
        return positive, negative, latent
    told = {"concat_latent_image": vae.encode(known.on_canvas(clip)), "concat_mask": known.mask(clip, kind)}
    return (
        node_helpers.conditioning_set_values(positive, told),
        node_helpers.conditioning_set_values(negative, told),
        latent,
    )


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
    fit_frames(start[:n_kept], frames, clip.fit, clip.crop_position)
    encoded = vae.encode(frames)
    samples = comfy.latent_formats.Wan22().process_out(clip.empty_latent(kind, 1))
    samples[:, :, : encoded.shape[2]] = encoded
    noise_mask = torch.ones_like(samples[:, :1])
    noise_mask[:, :, : encoded.shape[2]] = 0
    repeats = (clip.batch_size, 1, 1, 1, 1)
    return {"samples": samples.repeat(repeats), "noise_mask": noise_mask.repeat(repeats)}, warnings
