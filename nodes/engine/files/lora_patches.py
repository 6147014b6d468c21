"""Put LoRA files on the two experts with ComfyUI's own patching, and count what each of them does."""

from pathlib import Path
from typing import Any

import comfy.lora
import comfy.utils

from ...rules.files.expert_files import is_distilled
from ...rules.files.lora_files import name_warnings, plan_warnings, refuse_no_match, twice_distilled
from ...rules.files.lora_plan import Shape, plan_lora
from .expert_origin import ExpertOrigin, origin_of, set_origin

_NETWORK = "diffusion_model."
_DIFFERENCES = (".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm")


def apply_lora(model: Any, path: Path, strength: float, slot: str) -> tuple[Any, dict[str, Any], list[str]]:
    """Return a patched clone of `model`, the counts for the report, and warnings; `model` itself is not changed.

    Raises FileRefused when no key of the file fits the model.
    """
    tensors, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    plan = plan_lora({name: tuple(tensor.shape) for name, tensor in tensors.items()}, network_shapes(model), slot)
    refuse_no_match(slot, path.name, plan)
    patched = model.clone()
    key_map = comfy.lora.model_lora_keys_unet(model.model, {})
    renamed = {name: tensors[key] for key, name in plan.applied.items()}
    # Apart, because ComfyUI keeps one patch per weight and file: a difference would replace the LoRA of the same layer.
    for differences in (False, True):
        some = {name: tensor for name, tensor in renamed.items() if name.endswith(_DIFFERENCES) == differences}
        patched.add_patches(comfy.lora.load_lora(some, key_map, log_missing=False), strength)
    warnings = plan_warnings(slot, path.name, plan) + name_warnings(slot, path)
    warnings += _remember(patched, path.name, is_distilled(path, metadata or {}), slot)
    return patched, {"file": path.name, "strength": strength, **plan.counts()}, warnings


def network_shapes(model: Any) -> dict[str, Shape]:
    """The shape of every parameter of a MODEL's network, as the network sees it when the weight is quantised."""
    names = (name for name in model.model.state_dict() if name.startswith(_NETWORK))
    shapes = {}
    for name in names:
        parameter = _parameter(model.model, name)
        if parameter is not None:
            shapes[name.removeprefix(_NETWORK)] = tuple(parameter.shape)
    return shapes


def _parameter(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _remember(model: Any, file: str, distilled: bool, slot: str) -> list[str]:
    """Note the LoRA on the patched clone; warn when this makes two step-reducing files on one expert."""
    origin = origin_of(model)
    if origin is None:
        return []
    set_origin(model, ExpertOrigin(origin.file, origin.distilled or distilled, (*origin.loras, file)))
    return [twice_distilled(slot, file, origin.file)] if distilled and origin.distilled else []
