"""Real ComfyUI Wan models of one small block and random weights, and the little around them that a sampler needs."""

import json
from collections.abc import Callable
from typing import Any

import comfy.ldm.wan.model
import comfy.ops
import comfy.sd
import torch

TEXT_DIM = 32
LATENT_SHAPE = (1, 16, 3, 4, 4)
CHANNELS = {"i2v": (36, 16), "t2v": (16, 16), "ti2v_5b": (48, 48)}


def tiny_wan(kind: str = "i2v", seed: int = 0, scale: float = 0.3) -> Any:
    """A MODEL (ModelPatcher) of `kind`, loaded by ComfyUI from a state dict, whose output depends on `seed`."""
    in_dim, out_dim = CHANNELS[kind]
    network = comfy.ldm.wan.model.WanModel(
        in_dim=in_dim,
        out_dim=out_dim,
        dim=128,
        ffn_dim=64,
        text_dim=TEXT_DIM,
        num_heads=1,
        num_layers=1,
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, value in network.state_dict().items():
        weights[key] = scale * torch.randn(value.shape, generator=generator) / max(value[0].numel(), 1) ** 0.5
        if key.startswith("head.head") or "patch_embedding" in key:
            weights[key] *= 4
    metadata = {"config": json.dumps({"transformer": {"text_dim": TEXT_DIM}})}
    return comfy.sd.load_diffusion_model_state_dict(weights, metadata=metadata)


def conditioning(seed: int, image: bool = True, frames: int = 3, size: int = 4) -> list:
    """ComfyUI conditioning with a prompt of four tokens and, for I2V, a start image."""
    generator = torch.Generator().manual_seed(seed)
    options: dict = {}
    if image:
        options["concat_latent_image"] = torch.randn(1, 16, frames, size, size, generator=generator)
        options["concat_mask"] = torch.ones(1, 1, frames, size, size)
        options["concat_mask"][:, :, :1] = 0.0
    return [[torch.randn(1, 4, TEXT_DIM, generator=generator), options]]


def bare_denoiser(model: Any, positive: list) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """denoise(x, sigma) on the network itself, without guider, sampler or conditioning machinery."""
    cross_attention, options = positive[0]

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        network = model.model
        concat = network.concat_cond(noise=x, device=x.device, **{key: value.clone() for key, value in options.items()})
        with torch.no_grad():
            return network.apply_model(x, torch.full((x.shape[0],), sigma), concat, cross_attention)

    return denoise
