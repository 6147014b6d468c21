"""Trains the VAE's decoder on from the linear one: its residual branches learn edges that no linear decoder draws.

The encoder stays as it is, so latents and the experts that were trained on them do too.
"""

import random
from pathlib import Path

import comfy.ldm.wan.vae
import torch

from ..sizes import VAE_2_1
from ..wan_vae import LatentSpace, Tensors, latent_space
from . import data
from .saved_training import resume, train_steps

STEPS = 3000
RATES = {  # of the residual branches, from full size to the coarsest; the first that fits counts
    ("upsamples.12.", "upsamples.13.", "upsamples.14."): 1e-3,
    ("upsamples.8.", "upsamples.9.", "upsamples.10."): 5e-4,
    ("upsamples.4.", "upsamples.5.", "upsamples.6."): 2e-4,
    ("upsamples.", "middle."): 1e-4,
}
LINEAR_RATE = 3e-5  # of what passes the linear decoder's signal on
SIZES = ((96, 128), (160, 240))  # height, width of the clips that the crops are taken from
NUM_CLIPS, NUM_FRAMES, CROP = 4, 13, 64  # four latent frames: the last one sees no start of the clip any more
MOST_NOISE = 0.1  # on the latents, which have variance 1, so that the experts' imperfect ones are drawn too


def train_decoder(path: Path, vae: Tensors) -> Tensors:
    """All of the VAE's tensors, the decoder's after STEPS steps; `path` keeps its state and is resumed."""
    model, space = build_vae(vae), latent_space(vae)
    groups = [{"params": [parameter], "lr": _rate(name)} for name, parameter in model.decoder.named_parameters()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    steps = range(resume(path, model.decoder, optimizer), STEPS)
    train_steps(path, model.decoder, optimizer, steps, _rate_share, lambda step: decoder_loss(model, space, step))
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _rate(name: str) -> float:
    """The learning rate of a parameter of the decoder: coarse layers see fewer places, so noisier gradients."""
    if ".residual." not in name and not name.startswith("middle."):
        return LINEAR_RATE
    return next(rate for blocks, rate in RATES.items() if name.startswith(blocks))


def _rate_share(step: int) -> float:
    return min((step + 1) / 20, 1.0, 2.0 * (1 - step / STEPS))


def build_vae(weights: Tensors) -> torch.nn.Module:
    """ComfyUI's own Wan2.1 VAE with `weights`, its decoder to be trained."""
    size = VAE_2_1
    model = comfy.ldm.wan.vae.WanVAE(
        dim=size.dim,
        z_dim=size.z_dim,
        dim_mult=list(size.dim_mult),
        num_res_blocks=size.num_res_blocks,
        attn_scales=[],
        temperal_downsample=list(size.temporal_downsample),
        dropout=0.0,
    )
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    return model


def decoder_loss(model: torch.nn.Module, space: LatentSpace, step: int) -> torch.Tensor:
    """Root mean square error of each of step number `step`'s clips, the first frame counted again by a quarter.

    The root, as a squared error would leave all the say to the few clips that are hardest.
    """
    clips = _clips(step)
    generator = torch.Generator().manual_seed(step)
    latents = torch.stack([space.encode(clip) for clip in clips])
    amounts = MOST_NOISE * torch.rand(len(clips), 1, 1, 1, 1, generator=generator)
    latents = latents + amounts * torch.randn(latents.shape, generator=generator)
    std, mean = (values.view(-1, 1, 1, 1) for values in (space.wan_std, space.wan_mean))
    with torch.autocast("cpu", torch.bfloat16):
        made = model.decode(latents * std + mean)
    errors = (made.float().transpose(1, 2) - clips).pow(2)
    return (errors.mean(dim=(1, 2, 3, 4)) + 0.25 * errors[:, 0].mean(dim=(1, 2, 3)) + 1e-5).sqrt().mean()


def _clips(step: int) -> torch.Tensor:
    """[NUM_CLIPS, NUM_FRAMES, 3, CROP, CROP] in [-1, 1]; no two steps share any."""
    rng, crops = random.Random(step), []
    for clip in range(NUM_CLIPS):
        height, width = rng.choice(SIZES)
        frames = data.make_clip(NUM_CLIPS * step + clip, NUM_FRAMES, height, width).frames
        top, left = rng.randrange(height - CROP + 1), rng.randrange(width - CROP + 1)
        crops.append(frames[:, :, top : top + CROP, left : left + CROP])
    return torch.stack(crops) * 2 - 1
