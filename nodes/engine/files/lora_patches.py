"""Put LoRA files on the two experts with ComfyUI's own patching, and count what each of them does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.utils
import torch

from ...rules.files.expert_files import is_distilled
from ...rules.files.lora_files import name_warnings, plan_warnings, refuse_no_match, twice_distilled
from ...rules.files.lora_plan import LoraPlan, Shape, plan_lora
from ...rules.files.lora_rows import input_name
from ...rules.files.trigger_words import trigger_words
from .expert_origin import ExpertOrigin, origin_of, set_origin

_NETWORK = "diffusion_model."
_DIFFERENCES = (".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm")


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file that is read: its tensors and its metadata."""

    path: Path
    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, Any]


def read_lora(path: Path) -> LoraFile:
    tensors, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    return LoraFile(path, tensors, metadata or {})


def apply_lora(
    model: Any, lora: LoraFile, strength: float, slot: str, row: int = 1
) -> tuple[Any, dict[str, Any], list[str]]:
    """Return a patched clone of `model`, the counts for the report, and warnings; `model` itself is not changed.

    `slot` is high_noise or low_noise, `row` the node's row, which the sentences name. Raises FileRefused when no key of
    the file fits the model.
    """
    file, origin, named = lora.path.name, origin_of(model), input_name(f"{slot}_lora", row)
    expert = origin.file if origin else "the expert"
    network = network_shapes(model)
    plan = plan_lora({name: tuple(tensor.shape) for name, tensor in lora.tensors.items()}, network, slot)
    refuse_no_match(named, file, expert, plan)
    patched = model.clone()
    _add_patches(patched, plan, {name: lora.tensors[key] for key, name in plan.applied.items()}, network, strength)
    warnings = plan_warnings(named, file, expert, plan) + name_warnings(slot, named, lora.path)
    warnings += _remember(patched, file, is_distilled(lora.path, lora.metadata), named)
    words = trigger_words(lora.metadata)
    return patched, {"file": file, "strength": strength, **plan.counts(), "trigger_words": words}, warnings


def _add_patches(
    model: Any, plan: LoraPlan, tensors: dict[str, torch.Tensor], network: Mapping[str, Shape], strength: float
) -> None:
    """Patch `model` with tensors that are named as ComfyUI reads them.

    Differences go in apart, because ComfyUI keeps one patch per weight and file: one would replace the LoRA of the same
    layer.
    """
    key_map = {
        _NETWORK + layer: f"{_NETWORK}{layer}.weight" if f"{layer}.weight" in network else _NETWORK + layer
        for layer in plan.layers
    }
    for differences in (False, True):
        some = {name: tensor for name, tensor in tensors.items() if name.endswith(_DIFFERENCES) == differences}
        if some:
            model.add_patches(comfy.lora.load_lora(some, key_map, log_missing=False), strength)


def network_shapes(model: Any) -> dict[str, Shape]:
    """The shape of every parameter of a MODEL's network, as the network sees it when the weight is quantised."""
    parameters = model.model.diffusion_model.named_parameters(remove_duplicate=False)
    return {name: tuple(parameter.shape) for name, parameter in parameters}


def _remember(model: Any, file: str, distilled: bool, named: str) -> list[str]:
    """Note the LoRA on the patched clone; warn when this makes two step-reducing files on one expert."""
    origin = origin_of(model)
    if origin is None:
        return []
    set_origin(model, ExpertOrigin(origin.file, origin.distilled or distilled, (*origin.loras, file)))
    return [twice_distilled(named, file, origin.file)] if distilled and origin.distilled else []
