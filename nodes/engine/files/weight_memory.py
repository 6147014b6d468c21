"""How much of a model's weights its device can hold."""

from typing import Any

import comfy.model_management
import torch


def memory_for_weights(device: torch.device) -> int | None:
    """Bytes that ComfyUI could give to the weights of one model once it has unloaded every other; None for a CPU.

    Memory that other programs hold is not counted, and what core keeps for the run itself is taken off.
    """
    management = comfy.model_management
    if management.is_device_cpu(device):
        return None
    loaded = sum(each.model_loaded_memory() for each in management.current_loaded_models if each.device == device)
    return int(min(management.maximum_vram_for_weights(device), management.get_free_memory(device) + loaded))


def size_of_weights(model: Any) -> tuple[int, int]:
    """Bytes, and the number of parameters, of a MODEL's network."""
    return model.model_size(), sum(weight.numel() for weight in model.model.diffusion_model.parameters())
