"""Every way in which quantised weights are stored: what ComfyUI reads, and what it would read wrongly."""

import json
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.expert_files import check_expert
from wan_relay.tests.tiny_models import Listing, expert_listing, is_block_weight, write_model


def quantised(
    dtype: str = "F8_E4M3",
    scale: str = "weight_scale",
    scale_shape: tuple[int, ...] = (),
    comfy_quant: bool = False,
    extra: Listing | None = None,
    prefix: str = "",
) -> Listing:
    listing: Listing = dict(extra or {})
    for name, (_, shape) in expert_listing(prefix=prefix).items():
        block_weight = is_block_weight(name, shape)
        listing[name] = (dtype if block_weight else "F16", shape)
        layer = name.removesuffix(".weight")
        if block_weight and scale:
            listing[f"{layer}.{scale}"] = ("F32", scale_shape and (shape[0], *scale_shape[1:]))
        if block_weight and comfy_quant:
            listing[f"{layer}.comfy_quant"] = ("U8", (27,))
    return listing


def described(layer_prefix: str = "") -> dict[str, str]:
    names = [name for name, (_, shape) in expert_listing().items() if is_block_weight(name, shape)]
    layers = {layer_prefix + name.removesuffix(".weight"): {"format": "float8_e4m3fn"} for name in names}
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


MODEL = "model.diffusion_model."
READABLE: dict[str, tuple[Listing, dict[str, str] | None, str]] = {
    "fp16": (expert_listing(), None, "fp16"),
    "bf16": (expert_listing(dtype="BF16"), None, "bf16"),
    "fp32": (expert_listing(dtype="F32"), None, "fp32"),
    "plain fp8": (quantised(scale=""), None, "fp8_e4m3fn"),
    "plain fp8 e5m2": (quantised("F8_E5M2", scale=""), None, "fp8_e5m2"),
    "scaled_fp8": (quantised(scale="scale_weight", extra={"scaled_fp8": ("F8_E4M3", (2,))}), None, "fp8_e4m3fn scaled"),
    "scaled_fp8 under the prefix": (
        quantised(scale="scale_weight", extra={f"{MODEL}scaled_fp8": ("F8_E4M3", (0,))}, prefix=MODEL),
        None,
        "fp8_e4m3fn scaled",
    ),
    "comfy_quant": (quantised(comfy_quant=True), None, "fp8_e4m3fn scaled"),
    "comfy_quant e5m2": (quantised("F8_E5M2", comfy_quant=True), None, "fp8_e5m2 scaled"),
    "metadata": (quantised(), described(), "fp8_e4m3fn scaled"),
    "metadata without the prefix": (quantised(prefix=MODEL), described(), "fp8_e4m3fn scaled"),
    "metadata with the prefix": (quantised(prefix=MODEL), described(MODEL), "fp8_e4m3fn scaled"),
    "int8 per row": (quantised("I8", scale_shape=(1, 1), comfy_quant=True), None, "int8 scaled"),
}


@pytest.mark.parametrize("case", READABLE)
def test_weights_that_comfyui_reads(tmp_path: Path, case: str) -> None:
    listing, metadata, precision = READABLE[case]
    assert check_expert(write_model(tmp_path / "a.safetensors", listing, metadata)).precision == precision


NO_MARKER = "weights have scales without the marker that ComfyUI needs"
UNREADABLE: dict[str, tuple[Listing, dict[str, str] | None, str]] = {
    "scale_weight alone": (quantised(scale="scale_weight"), None, f"its fp8 {NO_MARKER}"),
    "weight_scale alone": (quantised(), None, f"its fp8 {NO_MARKER}"),
    "weight_scale per channel, as lightx2v writes it": (quantised(scale_shape=(1, 1)), None, f"its fp8 {NO_MARKER}"),
    "scaled_fp8 for weight_scale": (quantised(extra={"scaled_fp8": ("F32", (2,))}), None, f"its fp8 {NO_MARKER}"),
    "scaled_fp8 under another prefix": (
        quantised(scale="scale_weight", extra={f"{MODEL}scaled_fp8": ("F32", (2,))}),
        None,
        f"its fp8 {NO_MARKER}",
    ),
    "int8 scales alone": (quantised("I8"), None, f"its int8 {NO_MARKER}"),
    "int8 without scales": (quantised("I8", scale=""), None, "its int8 weights have no scales"),
    "comfy_quant without scales": (
        quantised(scale="", comfy_quant=True), None, "its fp8 weights are described to ComfyUI but have no weight_scale"
    ),
    "metadata for scale_weight": (
        quantised(scale="scale_weight", extra={"scaled_fp8": ("F32", (2,))}),
        described(),
        "its fp8 weights are described to ComfyUI but have no weight_scale",
    ),
    "scaled_fp8 beside metadata, which wins": (
        quantised(scale="scale_weight", extra={"scaled_fp8": ("F32", (2,))}),
        {"_quantization_metadata": '{"layers": {}}'},
        f"its fp8 {NO_MARKER}",
    ),
    "fp8 per row": (quantised(scale_shape=(1, 1), comfy_quant=True), None, "its fp8 weights have one scale per row"),
    "fp8 per row with scaled_fp8": (
        quantised(scale="scale_weight", scale_shape=(1, 1), extra={"scaled_fp8": ("F32", (2,))}),
        None,
        "its fp8 weights have one scale per row",
    ),
    "e5m2 with scaled_fp8": (
        quantised("F8_E5M2", scale="scale_weight", extra={"scaled_fp8": ("F8_E5M2", (2,))}),
        None,
        "its fp8_e5m2 weights carry the scaled_fp8 marker",
    ),
    "damaged metadata": (quantised(), {"_quantization_metadata": "{"}, "its metadata _quantization_metadata is"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_weights_whose_scales_comfyui_would_lose_are_refused(tmp_path: Path, case: str) -> None:
    listing, metadata, reason = UNREADABLE[case]
    with pytest.raises(FileRefused) as refusal:
        check_expert(write_model(tmp_path / "a.safetensors", listing, metadata))
    assert str(refusal.value).startswith("a.safetensors cannot be used: " + reason)
