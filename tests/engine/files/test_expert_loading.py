"""Loading through ComfyUI: every layout computes the same, and what is refused is what ComfyUI renders wrongly."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.sd
import pytest
import torch
from wan_relay.nodes.engine.files.expert_loading import PREFIXES_OF_CORE, load_pair
from wan_relay.nodes.engine.files.expert_origin import ExpertOrigin, origin_of
from wan_relay.nodes.engine.files.model_files import ModelFile
from wan_relay.nodes.rules.errors import FileRefused, InvalidInput
from wan_relay.nodes.rules.files.expert_files import check_expert, check_pair
from wan_relay.nodes.rules.files.gguf_header import read_gguf_header
from wan_relay.tests.engine.files.expert_variants import (
    METADATA,
    WEIGHTS,
    Tensors,
    fp16,
    predict,
    quantisation_metadata,
    quantised,
    relative_error,
    write_expert,
)
from wan_relay.tests.tiny_models import expert_listing, write_gguf

pytestmark = pytest.mark.comfy
E4M3, E5M2, INT8 = torch.float8_e4m3fn, torch.float8_e5m2, torch.int8
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return predict(comfy.sd.load_diffusion_model(str(write_expert(tmp_path_factory.mktemp("plain") / "a.safetensors"))))


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A low-noise expert for any high-noise file of this module."""
    tensors = {name: weight.flip(0).contiguous() for name, weight in fp16(WEIGHTS).items()}
    return write_expert(tmp_path_factory.mktemp("low") / "low.safetensors", tensors)


@dataclass(frozen=True)
class FileAt(ModelFile):
    """A model file outside ComfyUI's folders."""

    place: Path

    @property
    def path(self) -> Path:
        return self.place


def load(high: Path, low: Path, weight_dtype: str = "default") -> Any:
    files = [FileAt("diffusion_models", path.name, path) for path in (high, low)]
    return load_pair(check_pair(high, low), files[0], files[1], weight_dtype)


def with_marker(tensors: Tensors, num_elements: int, name: str = "scaled_fp8") -> Tensors:
    return {**tensors, name: torch.zeros(num_elements, dtype=E4M3)}


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


OLD_SCALES = quantised(E4M3, "scale_weight")
READABLE: dict[str, tuple[Tensors, dict[str, str]]] = {
    "comfy_quant": (quantised(E4M3, algorithm="float8_e4m3fn"), {}),
    "comfy_quant e5m2": (quantised(E5M2, algorithm="float8_e5m2"), {}),
    "scaled_fp8, full precision": (with_marker(OLD_SCALES, 2), {}),
    "scaled_fp8": (with_marker(OLD_SCALES, 0), {}),
    "scaled_fp8 under a prefix": (prefixed(with_marker(OLD_SCALES, 2), UNET), {}),
    "scaled_fp8 beside a prefix": (with_marker(prefixed(OLD_SCALES, UNET), 2), {}),
    "scaled_fp8, prefix of ours": (prefixed(with_marker(OLD_SCALES, 2), "diffusion_model."), {}),
    "scaled_fp8 beside a prefix of ours": (with_marker(prefixed(OLD_SCALES, "diffusion_model."), 2), {}),
    "metadata": (quantised(E4M3), {"_quantization_metadata": quantisation_metadata()}),
    "metadata, prefix": (prefixed(quantised(E4M3), UNET), {"_quantization_metadata": quantisation_metadata()}),
    "metadata, prefix of ours": (
        prefixed(quantised(E4M3), "diffusion_model."),
        {"_quantization_metadata": quantisation_metadata()},
    ),
    "plain fp8": ({n: w.to(E4M3) if n in quantised(E4M3) and w.ndim == 2 else w for n, w in fp16(WEIGHTS).items()}, {}),
    "int8 per row": (quantised(INT8, per_row=True, algorithm="int8_tensorwise"), {}),
    "bf16": ({name: weight.bfloat16() for name, weight in WEIGHTS.items()}, {}),
}


@pytest.mark.parametrize("case", READABLE)
def test_every_readable_layout_computes_the_same(
    case: str, tmp_path: Path, expected: torch.Tensor, partner: Path
) -> None:
    tensors, metadata = READABLE[case]
    high, low = load(write_expert(tmp_path / "high.safetensors", tensors, **metadata), partner)
    assert relative_error(predict(high), expected) < 0.05
    assert relative_error(predict(low), expected) > 0.5


UNREADABLE: dict[str, tuple[Tensors, dict[str, str]]] = {
    "scale_weight without a marker": (OLD_SCALES, {}),
    "weight_scale without a marker": (quantised(E4M3), {}),
    "weight_scale per row, as lightx2v writes it": (quantised(E4M3, per_row=True), {}),
    "scaled_fp8 for weight_scale": (with_marker(quantised(E4M3), 2), {}),
    "scaled_fp8 under another prefix": (with_marker(OLD_SCALES, 2, f"{UNET}scaled_fp8"), {}),
    "e5m2 with scaled_fp8": (with_marker(quantised(E5M2, "scale_weight"), 2), {}),
    "int8 without a marker": (quantised(INT8), {}),
    "per row": (quantised(E4M3, per_row=True, algorithm="float8_e4m3fn"), {}),
    "scaled_fp8 beside metadata, which wins": (
        with_marker(OLD_SCALES, 2),
        {"_quantization_metadata": '{"layers": {}}'},
    ),
    "metadata for scale_weight": (OLD_SCALES, {"_quantization_metadata": quantisation_metadata()}),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_refused_is_what_comfyui_loads_and_computes_wrongly(
    case: str, tmp_path: Path, expected: torch.Tensor, partner: Path
) -> None:
    tensors, metadata = UNREADABLE[case]
    path = write_expert(tmp_path / "high.safetensors", tensors, **metadata)
    with pytest.raises(FileRefused, match=r"^high_noise: high\.safetensors cannot be used: its .*\.$"):
        load(path, partner)
    try:
        model = comfy.sd.load_diffusion_model(str(path))
        wrong = not relative_error(predict(model), expected) < 0.1  # NaN is wrong too
    except (RuntimeError, AttributeError):
        wrong = True
    assert wrong


@pytest.mark.parametrize("prefix", ["", "model.", UNET, "net.", "diffusion_model.", "transformer.", "unet."])
def test_every_prefix_loads_the_same_weights(
    prefix: str, tmp_path: Path, expected: torch.Tensor, partner: Path
) -> None:
    path = write_expert(tmp_path / "high.safetensors", prefix=prefix)
    if prefix not in PREFIXES_OF_CORE:
        with pytest.raises(RuntimeError, match="Could not detect model type"):
            comfy.sd.load_diffusion_model(str(path))
    high, _ = load(path, partner)
    assert torch.equal(predict(high), expected)
    reload, arguments = high.cached_patcher_init
    assert torch.equal(predict(reload(*arguments, disable_dynamic=True)), expected)


@pytest.mark.parametrize("weight_dtype", ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_weight_dtypes_are_those_of_unet_loader(
    weight_dtype: str, tmp_path: Path, partner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_expert(tmp_path / "high.safetensors")
    monkeypatch.setattr("folder_paths.get_full_path_or_raise", lambda folder, name: str(path))
    (core,) = importlib.import_module("nodes").UNETLoader().load_unet("high.safetensors", weight_dtype)
    ours, _ = load(path, partner, weight_dtype)
    theirs_state, our_state = core.model.state_dict(), ours.model.state_dict()
    assert {n: (w.dtype, w.shape) for n, w in our_state.items()} == {
        n: (w.dtype, w.shape) for n, w in theirs_state.items()
    }
    assert all(torch.equal(weight.float(), theirs_state[name].float()) for name, weight in our_state.items())
    assert ours.model.model_config.optimizations == core.model.model_config.optimizations


def test_a_format_that_comfyui_does_not_know_is_one_sentence(tmp_path: Path, partner: Path) -> None:
    path = write_expert(tmp_path / "high.safetensors", quantised(INT8, algorithm="int9_blockwise"))
    with pytest.raises(FileRefused, match=r"^high_noise: ComfyUI cannot load high\.safetensors: 'int9_blockwise'\.$"):
        load(path, partner)


def test_a_long_name_of_a_format_is_cut(tmp_path: Path, partner: Path) -> None:
    path = write_expert(tmp_path / "high.safetensors", quantised(INT8, algorithm="x" * 500))
    with pytest.raises(FileRefused) as refusal:
        load(path, partner)
    assert str(refusal.value) == f"high_noise: ComfyUI cannot load high.safetensors: '{'x' * 198}…."


def test_the_origin_of_a_model_follows_its_clones(tmp_path: Path, partner: Path) -> None:
    high, low = load(write_expert(tmp_path / "wan_high_4step.safetensors"), partner)
    assert origin_of(high.clone().clone()) == ExpertOrigin("wan_high_4step.safetensors", True)
    assert origin_of(low) == ExpertOrigin("low.safetensors", False)
    core = comfy.sd.load_diffusion_model(str(tmp_path / "wan_high_4step.safetensors"))
    assert origin_of(core.clone()) == ExpertOrigin("wan_high_4step.safetensors", True)
    core.cached_patcher_init = None
    assert origin_of(core) is None


class StandInGgufLoader:
    """The interface of ComfyUI-GGUF's UnetLoaderGGUF, for F16 and F32 tensors only."""

    FUNCTION = "load_unet"
    folder: Path

    def load_unet(
        self, unet_name: str, dequant_dtype: Any = None, patch_dtype: Any = None, patch_on_device: Any = None
    ) -> Any:
        header = read_gguf_header(self.folder / unet_name)
        data = header.path.read_bytes()
        dtypes = {"F16": torch.float16, "F32": torch.float32}
        tensors = {
            name: torch.frombuffer(bytearray(data[info.begin : info.end]), dtype=dtypes[info.dtype]).view(info.shape)
            for name, info in header.tensors.items()
        }
        return (comfy.sd.load_diffusion_model_state_dict(tensors, metadata=METADATA), unet_name, "sha256")


def test_gguf_files_are_handed_to_the_loader_of_comfyui_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"dim": 64, "ffn_dim": 128, "text_dim": 32, "freq_dim": 256}
    paths = [
        write_gguf(tmp_path / f"{name}.gguf", expert_listing(dtype="F32", **sizes)) for name in ("a_4step", "b_4step")
    ]
    high, low = (FileAt("unet_gguf", path.name, path) for path in paths)
    report = check_pair(*paths)
    with pytest.raises(InvalidInput, match=r"^high_noise: a_4step\.gguf needs the ComfyUI-GGUF node pack"):
        load_pair(report, high, low, "default")
    StandInGgufLoader.folder = tmp_path
    monkeypatch.setitem(importlib.import_module("nodes").NODE_CLASS_MAPPINGS, "UnetLoaderGGUF", StandInGgufLoader)
    with pytest.raises(InvalidInput, match=r"^weight_dtype: expected default beside the GGUF file a_4step\.gguf"):
        load_pair(report, high, low, "fp8_e5m2")
    loaded = load_pair(report, high, low, "default")
    assert [origin_of(model) for model in loaded] == [ExpertOrigin(f"{name}_4step.gguf", True) for name in "ab"]
    for model, path in zip(loaded, paths, strict=True):
        info = read_gguf_header(path).tensors["head.modulation"]
        stored = torch.frombuffer(bytearray(path.read_bytes()[info.begin : info.end]), dtype=torch.float32)
        assert torch.equal(
            model.model.diffusion_model.head.modulation.float().flatten().nan_to_num(), stored.nan_to_num()
        )


def test_the_metadata_of_a_described_file_is_valid_json(tmp_path: Path) -> None:
    layers = json.loads(quantisation_metadata())["layers"]
    path = write_expert(tmp_path / "a.safetensors", quantised(E4M3), _quantization_metadata=quantisation_metadata())
    assert (len(layers), check_expert(path).precision) == (20, "fp8_e4m3fn scaled")
