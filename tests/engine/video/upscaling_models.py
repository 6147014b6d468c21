"""Files in the format of a Real-ESRGAN "compact" network, small."""

from pathlib import Path

import torch
from safetensors.torch import save_file

FEATURES = 4


def save_upscaler(path: Path, scale: int, weight: float = 0.0) -> None:
    """Random weights of this size on top of what the network does by itself: each pixel `scale` times a side."""
    random = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) * weight

    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        "body.0.weight": tensor(FEATURES, 3, 3, 3),
        "body.0.bias": tensor(FEATURES),
        "body.1.weight": tensor(FEATURES),
        "body.2.weight": tensor(FEATURES, FEATURES, 3, 3),
        "body.2.bias": tensor(FEATURES),
        "body.3.weight": tensor(FEATURES),
        "body.4.weight": tensor(3 * scale * scale, FEATURES, 3, 3),
        "body.4.bias": tensor(3 * scale * scale),
    }
    save_file(weights, path)
