"""Load the two experts through ComfyUI's own loaders."""

from typing import Any

import comfy.sd
import comfy.utils
import torch

from ...rules.errors import FileRefused, InvalidInput
from ...rules.experts import HIGH_NOISE, LOW_NOISE
from ...rules.files.expert_files import PairReport
from ...rules.files.shown_text import shown
from .expert_origin import ExpertOrigin, set_origin
from .model_files import ModelFile, gguf_loader

WEIGHT_DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
# The prefixes that comfy.model_detection.unet_prefix_from_state_dict finds by itself.
PREFIXES_OF_CORE = ("", "model.", "model.diffusion_model.", "model.model.", "net.")


def load_pair(
    report: PairReport, high_file: ModelFile, low_file: ModelFile | None, weight_dtype: str
) -> tuple[Any, Any]:
    """Load a checked pair; returns (high_noise MODEL, low_noise MODEL or None).

    `report` is what `check_pair` gave for the same files. Nothing is kept here: ComfyUI owns the models.
    """
    high = _load_slot(HIGH_NOISE, report["high_noise"], high_file, weight_dtype)
    low_facts = report["low_noise"]
    low = _load_slot(LOW_NOISE, low_facts, low_file, weight_dtype) if low_facts and low_file else None
    return high, low


def load_prefixed_model(path: str, prefix: str, model_options: dict[str, Any], disable_dynamic: bool = False) -> Any:
    """Load a file whose names carry a prefix that ComfyUI does not look for, by dropping the prefix.

    ComfyUI keeps this function and its arguments on the MODEL to load the same file again where it must.
    """
    weights, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    weights, metadata = comfy.utils.convert_old_quants(weights, "", metadata=metadata)
    weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    model = comfy.sd.load_diffusion_model_state_dict(
        weights, model_options=model_options, metadata=metadata, disable_dynamic=disable_dynamic
    )
    if model is None:
        raise ValueError("the model in it is not recognised")
    model.cached_patcher_init = (load_prefixed_model, (path, prefix, model_options))
    return model


def _load_slot(slot: str, facts: dict[str, Any], file: ModelFile, weight_dtype: str) -> Any:
    if file.path.suffix.lower() == ".gguf":
        model = _load_gguf(slot, file.name, weight_dtype)
    else:
        options = _model_options(weight_dtype)
        try:
            if facts["prefix"] in PREFIXES_OF_CORE:
                model = comfy.sd.load_diffusion_model(str(file.path), model_options=options)
            else:
                model = load_prefixed_model(str(file.path), facts["prefix"], options)
        except (KeyError, ValueError) as problem:  # a quantisation format that this ComfyUI does not know
            raise FileRefused(f"{slot}: ComfyUI cannot load {file.name}: {shown(str(problem), 200)}.") from problem
    set_origin(model, ExpertOrigin(facts["file"], facts["distilled"]))
    return model


def _model_options(weight_dtype: str) -> dict[str, Any]:
    """The options that ComfyUI's UNETLoader gives for the same choice."""
    options: dict[str, Any] = {}
    if weight_dtype in ("fp8_e4m3fn", "fp8_e4m3fn_fast"):
        options["dtype"] = torch.float8_e4m3fn
    if weight_dtype == "fp8_e4m3fn_fast":
        options["fp8_optimizations"] = True
    if weight_dtype == "fp8_e5m2":
        options["dtype"] = torch.float8_e5m2
    return options


def _load_gguf(slot: str, name: str, weight_dtype: str) -> Any:
    """Hand the file to the loader node of ComfyUI-GGUF, as its own node does."""
    loader = gguf_loader()
    if loader is None:
        raise InvalidInput(f"{slot}: {name} needs the ComfyUI-GGUF node pack, which is not installed.")
    if weight_dtype != "default":
        raise InvalidInput(
            f"weight_dtype: expected default beside the GGUF file {name} in {slot}, which keeps its own precision, "
            f"got {weight_dtype}."
        )
    return getattr(loader(), loader.FUNCTION)(unet_name=name)[0]
