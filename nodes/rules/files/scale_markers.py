"""How the weights of a file are stored, and whether ComfyUI will read their scales.

ComfyUI multiplies a quantised weight by its scale only where something says how: a `comfy_quant` tensor beside it, the
metadata `_quantization_metadata`, or one `scaled_fp8` tensor (comfy/utils.py convert_old_quants). Without it the file
loads without a word, the scales are dropped, and every video is noise.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import FileRefused
from .expert_kind import Network
from .safetensors_header import FileHeader, TensorInfo
from .shown_text import shown

_PRECISIONS = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8_e4m3fn", "F8_E5M2": "fp8_e5m2",
    "I8": "int8", "U8": "4-bit",
}  # fmt: skip
_FLOAT8 = ("F8_E4M3", "F8_E5M2")
_PACKED = ("I8", "U8")


def precision(header: FileHeader, network: Network) -> str:
    """Name the storage of most weight bytes, e.g. "fp16", "fp8_e4m3fn", "fp8_e4m3fn scaled", "int8 scaled"."""
    stored: Counter[str] = Counter()
    for name, info in header.tensors.items():
        if name.startswith(f"{network.prefix}blocks.") and name.endswith(".weight"):
            stored[info.dtype] += info.end - info.begin
    ((dtype, _),) = stored.most_common(1)
    scaled = any(name.endswith((".weight_scale", ".scale_weight")) for name in header.tensors)
    return _PRECISIONS.get(dtype, dtype.lower()) + (" scaled" if scaled and dtype in (*_FLOAT8, *_PACKED) else "")


def refuse_lost_scales(header: FileHeader, network: Network) -> None:
    """Raise FileRefused where ComfyUI would load a quantised weight and drop, misread or not find its scale."""
    described = _described_layers(header.metadata, network.prefix)
    markers = {f"{network.prefix}scaled_fp8", "scaled_fp8"} & header.tensors.keys()
    marked = bool(markers) and "_quantization_metadata" not in header.metadata
    problems: dict[str, list[str]] = {}
    for name, weight in header.tensors.items():
        if not (name.startswith(network.prefix) and name.endswith(".weight") and weight.dtype in (*_FLOAT8, *_PACKED)):
            continue
        layer = name.removesuffix(".weight")
        stored = _StoredLayer(
            weight.dtype,
            header.tensors.get(f"{layer}.weight_scale"),
            header.tensors.get(f"{layer}.scale_weight"),
            f"{layer}.comfy_quant" in header.tensors or layer in described,
            marked,
        )
        if problem := _problem(stored):
            problems.setdefault(problem, []).append(layer)
    if problems:
        problem, layers = max(problems.items(), key=lambda item: len(item[1]))
        raise FileRefused(f"{problem} ({len(layers)} layers, first {shown(layers[0])})")


class _StoredLayer(NamedTuple):
    dtype: str
    weight_scale: TensorInfo | None
    scale_weight: TensorInfo | None
    described: bool  # by comfy_quant or _quantization_metadata
    marked: bool  # by scaled_fp8, which speaks of scale_weight only and always means fp8_e4m3fn


def _problem(layer: _StoredLayer) -> str:
    kind = "fp8" if layer.dtype in _FLOAT8 else "int8" if layer.dtype == "I8" else "4-bit"
    scale = layer.weight_scale if layer.described else layer.scale_weight if layer.marked else None
    if scale is None:
        if layer.described:
            return f"its {kind} weights are described to ComfyUI but have no weight_scale"
        if layer.weight_scale or layer.scale_weight:
            return (
                f"its {kind} weights have scales without the marker that ComfyUI needs (comfy_quant, scaled_fp8 or "
                "_quantization_metadata), so that they would be dropped and the video would be noise; "
                "get the file made for ComfyUI"
            )
        return "" if kind == "fp8" else f"its {kind} weights have no scales, so that they cannot be read"
    if not layer.described and layer.dtype == "F8_E5M2":
        return "its fp8_e5m2 weights carry the scaled_fp8 marker, which ComfyUI reads as fp8_e4m3fn and gets NaN"
    if kind == "fp8" and scale.dtype in ("F32", "F16", "BF16") and math.prod(scale.shape) != 1:
        return "its fp8 weights have one scale per row, and ComfyUI reads one scale per layer"
    return ""


def _described_layers(metadata: Mapping[str, str], prefix: str) -> set[str]:
    if "_quantization_metadata" not in metadata:
        return set()
    try:
        layers = json.loads(metadata["_quantization_metadata"])["layers"]
        return {layer if layer.startswith(prefix) else prefix + layer for layer in layers}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise FileRefused("its metadata _quantization_metadata is damaged") from None
