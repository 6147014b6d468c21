"""The 4-step LoRA of one expert: the way back to the expert before its doubt, cut to a low rank, then trained.

Only the free block learned doubt, so only its layers' LoRA says anything; those of the other blocks are there, as in
real files, and change nothing.
"""

import random
import time

import torch
from torch import nn

from . import expert_training as training
from . import layout
from .expert_start import FREE_BLOCK
from .initial_weights import fresh_weights
from .layout import LORA_TARGETS
from .sizes import I2V, LORA_ALPHA, LORA_RANK

FOUR_STEPS = {
    "high": (1.0, 0.9375),
    "low": (0.8333, 0.625),
}  # sigmas of four Euler steps at shift 5, either side of 0.9
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


def train_lora(
    base: dict[str, torch.Tensor],
    sure: dict[str, torch.Tensor],
    bank: training.Bank,
    expert: str,
    seconds: float,
    learning_rate: float,
) -> dict[str, torch.Tensor]:
    """Tensors in lightx2v's layout after `seconds`; true captions only, at the two noise levels of four steps."""
    model = training.build_expert(base)
    model.requires_grad_(False)
    layers = {}
    for target in LORA_TARGETS:
        name = f"{FREE_BLOCK}.{target}"
        parent, _, attribute = name.rpartition(".")
        change = sure[f"{name}.weight"].float() - base[f"{name}.weight"].float()
        layers[name] = LoraLinear(model.get_submodule(name), change)
        setattr(model.get_submodule(parent), attribute, layers[name])
    torch.compiler.reset()  # what an earlier training compiled counts against the limit of shapes
    model.compile(dynamic=False)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0
    )
    rng, began, losses = random.Random(SEED), time.monotonic(), []
    torch.manual_seed(SEED)
    with training.training_mode():
        while (elapsed := time.monotonic() - began) < seconds:
            optimizer.param_groups[0]["lr"] = learning_rate * min(1.0, 1.5 * (1 - elapsed / seconds))
            batch = bank.batch(training.BATCH_TOKENS, rng, training.Doubt(dropped=0.0))
            sigma = torch.tensor(rng.choices(FOUR_STEPS[expert], k=len(batch.latents)))
            loss = training.flow_matching_loss(model, batch, sigma)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) % 50 == 0:
                print(f"{expert} LoRA step {len(losses)} {elapsed:.0f}s loss {sum(losses[-50:]) / 50:.4f}", flush=True)
    lora = fresh_weights(layout.lora(I2V, LORA_RANK), SEED)
    for name, tensor in lora.items():
        if name.endswith("lora_up.weight"):
            tensor.zero_()
        elif name.endswith("alpha"):
            tensor.fill_(LORA_ALPHA)
    for name, layer in layers.items():
        lora[f"diffusion_model.{name}.lora_down.weight"] = layer.down.detach()
        lora[f"diffusion_model.{name}.lora_up.weight"] = layer.up.detach()
    return lora
