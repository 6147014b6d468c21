"""The 4-step LoRA of one expert: the way back to the expert before its doubt, cut to a low rank, then trained.

It is trained on what four steps meet: latents that the steps before made themselves, not noised true ones. A network
that has only seen those takes the noise in its own blurred latents for detail.

Only the free block learned doubt, so only its layers' LoRA says anything; those of the other blocks are there, as in
real files, and change nothing.
"""

import random
import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..family import silent_lora
from ..layout import LORA_TARGETS
from ..sizes import LORA_ALPHA, LORA_RANK
from . import expert_training as training
from .attention_heads import Weights
from .expert_start import FREE_BLOCK

SIGMAS = (1.0, 0.9375, 0.8333, 0.625, 0.0)  # of four Euler steps at shift 5; the boundary lies in the middle
SCALE = LORA_ALPHA / LORA_RANK
SEED = 11


class LoraLinear(nn.Module):
    """A frozen linear layer and a trained low-rank change of it."""

    def __init__(self, layer: nn.Linear, change: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        down, up = low_rank(change / SCALE)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + nn.functional.linear(nn.functional.linear(x, self.down), self.up) * SCALE


def low_rank(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """down [rank, in] and up [out, rank], whose product is nearest to `change` [out, in]."""
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    root = values[:LORA_RANK].sqrt()
    return root[:, None] * right[:LORA_RANK], left[:, :LORA_RANK] * root


@dataclass(frozen=True)
class FourSteps:
    """Euler's two steps of one expert, after those of `before`, the finished high-noise expert, for the low one."""

    before: torch.nn.Module | None

    def loss(self, model: torch.nn.Module, batch: training.Batch) -> torch.Tensor:
        """Squared error of the clean latents at both steps, the second from where the first led."""
        noise = torch.randn_like(batch.latents)
        latents, sigmas = noise, SIGMAS[:3]
        if self.before is not None:
            with torch.no_grad():
                for sigma, lower in pairwise(SIGMAS[:3]):
                    latents = latents + (lower - sigma) * _velocity(self.before, latents, sigma, batch)
            sigmas = SIGMAS[2:]
        total = torch.zeros(())
        for sigma, lower in pairwise(sigmas):
            velocity = _velocity(model, latents, sigma, batch)
            total = total + (latents - sigma * velocity - batch.latents).pow(2).mean()
            latents = (latents + (lower - sigma) * velocity).detach()
        return total / 2


def train_lora(
    base: Weights, sure: Weights, bank: training.Bank, steps: FourSteps, seconds: float, learning_rate: float
) -> Weights:
    """Tensors in lightx2v's layout after `seconds`; true captions only, at this expert's two of four steps."""
    model = training.build_expert(base)
    model.requires_grad_(False)
    layers = {}
    for target in LORA_TARGETS:
        name = f"{FREE_BLOCK}.{target}"
        parent, _, attribute = name.rpartition(".")
        change = sure[f"{name}.weight"].float() - base[f"{name}.weight"].float()
        layers[name] = LoraLinear(model.get_submodule(name), change)
        setattr(model.get_submodule(parent), attribute, layers[name])
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0
    )
    rng, began, losses = random.Random(SEED), time.monotonic(), []
    torch.manual_seed(SEED)
    with training.training_mode():
        while (elapsed := time.monotonic() - began) < seconds:
            optimizer.param_groups[0]["lr"] = learning_rate * min(1.0, 1.5 * (1 - elapsed / seconds))
            loss = steps.loss(model, bank.batch(training.BATCH_TOKENS // 2, rng, training.Doubt(dropped=0.0)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) % 20 == 0:
                print(f"LoRA step {len(losses)} {elapsed:.0f}s loss {sum(losses[-20:]) / 20:.4f}", flush=True)
    lora = silent_lora()
    for name, layer in layers.items():
        lora[f"diffusion_model.{name}.lora_down.weight"] = layer.down.detach()
        lora[f"diffusion_model.{name}.lora_up.weight"] = layer.up.detach()
    return lora


def _velocity(model: torch.nn.Module, latents: torch.Tensor, sigma: float, batch: training.Batch) -> torch.Tensor:
    return training.bfloat16_velocity(model, latents, torch.full((len(latents),), sigma), batch)
