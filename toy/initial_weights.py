"""Fresh weights for a layout, from a seed: finite, of sensible scale, the same on every machine."""

import math

import torch

from .layout import Shapes


def fresh_weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Float32 tensors for `shapes`: gains 1, biases 0, modulations small, the rest normal with variance 1/fan-in."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _fresh_tensor(name, shape, generator) for name, shape in shapes.items()}


def _fresh_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if name.endswith(".gamma") or "norm" in name.rsplit(".", 2)[-2]:
        return torch.ones(shape)
    if name.endswith("modulation"):
        return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
    if name == "shared.weight":
        return torch.randn(shape, generator=generator)
    if name.endswith(".alpha"):
        return torch.tensor(1.0)
    fan_in = math.prod(shape[1:])
    return torch.randn(shape, generator=generator) / math.sqrt(fan_in)
