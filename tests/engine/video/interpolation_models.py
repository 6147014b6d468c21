"""Files in the formats of FILM and RIFE with random weights, small where the format allows it."""

from pathlib import Path

import torch
from comfy_extras.frame_interpolation_models.film_net import FILMNet
from comfy_extras.frame_interpolation_models.ifnet import IFNet
from safetensors.torch import save_file


def save_film(path: Path) -> None:
    """FILM has one size; half precision keeps the file at 70 MB."""
    _save(FILMNet(), path, torch.float16)


def save_rife(path: Path) -> None:
    _save(IFNet(head_ch=4, channels=(16, 16, 16, 16, 16)), path, torch.float32)


def _save(network: torch.nn.Module, path: Path, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(value.shape, generator=random) * 0.02).to(dtype)
        for name, value in network.state_dict().items()
    }
    save_file(weights, path)
