"""What the header check takes is what ComfyUI itself loads, by each of its two ways to read a safetensors file."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.memory_management
import comfy.utils
import comfy_aimdo.control
import folder_paths
import pytest
import safetensors
from wan_relay.nodes.apply_lora_pair import ApplyLoraPair
from wan_relay.nodes.editor import routes, size_answer
from wan_relay.nodes.encode_prompts import EncodePrompts
from wan_relay.nodes.engine.files.lora_patches import read_lora
from wan_relay.nodes.engine.files.model_files import maps_files
from wan_relay.nodes.load_experts import LoadExperts
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.safetensors_header import read_header
from wan_relay.nodes.rules.files.text_encoder_file import encoder_identity
from wan_relay.tests.nodes.model_folders import use_folders
from wan_relay.tests.tiny_models import Listing, expert_listing, write_model

pytestmark = pytest.mark.comfy


@pytest.fixture(params=[False, True], ids=["read", "mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """ComfyUI as it starts on other machines, and as it starts on an NVIDIA GPU with dynamic VRAM."""
    if request.param and not comfy_aimdo.control.init():
        pytest.skip("this system has no library to map files with")
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", request.param)
    assert maps_files() == request.param
    return bool(request.param)


def entry(begin: int, end: int, **others: Any) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end], **others}


TWO = {"a": entry(0, 4), "b": entry(4, 8)}
# header, bytes of data
FILES: dict[str, tuple[dict[str, Any], int]] = {
    "whole": (TWO, 8),
    "in another order": ({"b": entry(4, 8), "a": entry(0, 4)}, 8),
    "an empty tensor": (TWO | {"c": entry(4, 4)}, 8),
    "16 bytes after": (TWO, 24),
    "a gap": ({"a": entry(0, 4), "b": entry(6, 10)}, 10),
    "a gap before": ({"a": entry(2, 6)}, 6),
    "an overlap": ({"a": entry(0, 4), "b": entry(2, 8)}, 8),
    "metadata": (TWO | {"__metadata__": {"title": "x"}}, 8),
    "null metadata": (TWO | {"__metadata__": None}, 8),
    "metadata of a number": (TWO | {"__metadata__": {"step": 1}}, 8),
    "cut": (TWO, 7),
    "another shape": ({"a": entry(0, 4, shape=[5])}, 4),
}


def write(path: Path, header: dict[str, Any], num_bytes: int) -> Path:
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(range(num_bytes)))
    return path


@pytest.mark.parametrize("case", FILES)
def test_the_check_agrees_with_comfyui(mapped: bool, case: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", *FILES[case])
    try:
        names = set(read_header(path, mapped).tensors)
    except FileRefused:
        names = set()
    try:
        loaded = comfy.utils.load_torch_file(str(path))
    except (RuntimeError, ValueError, safetensors.SafetensorError):
        loaded = {}
    assert {name: bytes(tensor.tolist()) for name, tensor in loaded.items()} == {
        name: bytes(range(*FILES[case][0][name]["data_offsets"])) for name in names
    }


ENCODER: Listing = {
    "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": ("U8", (10240, 1)),
    "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": ("U8", (32, 4)),
    "spiece_model": ("U8", (1000,)),
}
LORA: Listing = {"blocks.0.ffn.0.lora_up.weight": ("F16", (12, 2)), "blocks.0.ffn.0.lora_down.weight": ("F16", (2, 8))}
# folder -> the node's own check of a file in it
CHECKS: dict[str, Callable[[str], Any]] = {
    "diffusion_models": lambda name: LoadExperts.validate_inputs(name, "none"),
    "loras": lambda name: ApplyLoraPair.validate_inputs(high_noise_lora=name, low_noise_lora="none"),
    "text_encoders": EncodePrompts.validate_inputs,
}


@pytest.fixture
def long_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder in which every file has 16 bytes after its last tensor."""
    use_folders(monkeypatch, tmp_path)
    for folder in ("text_encoders", "vae"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, ([str(tmp_path / folder)], {".safetensors"}))
    vae: Listing = {"decoder.22.bias": ("U8", (1,)), "decoder.1.weight": ("U8", (4, 48))}
    listings = {"diffusion_models": expert_listing("ti2v_5b"), "loras": LORA, "text_encoders": ENCODER, "vae": vae}
    for folder, listing in listings.items():
        path = write_model(tmp_path / folder / "a.safetensors", listing)
        path.write_bytes(path.read_bytes() + bytes(16))
    return tmp_path


@pytest.mark.parametrize("folder", CHECKS)
def test_every_node_checks_files_as_this_comfyui_reads_them(mapped: bool, long_files: Path, folder: str) -> None:
    answer = CHECKS[folder]("a.safetensors")
    if mapped:
        assert answer is True
    else:
        assert "a.safetensors cannot be loaded: 16 bytes follow the last tensor" in answer


def test_the_editor_does_too(mapped: bool, long_files: Path) -> None:
    assert size_answer._is_5b_vae("a.safetensors") is (True if mapped else None)
    experts = {"high_noise": "a.safetensors", "low_noise": "none"}
    loras = {"high_noise_lora": "a.safetensors", "low_noise_lora": "none"}
    if mapped:
        assert routes.experts(experts)["high_noise"]["file"] == "a.safetensors"
        assert routes.loras(loras)["pairs"][0]["high_noise"]["file"] == "a.safetensors"
    else:
        assert "16 bytes follow the last tensor" in routes.experts(experts)["refused"]
        with pytest.raises(FileRefused, match="16 bytes follow the last tensor"):
            routes.loras(loras)


def test_a_lora_with_bytes_after_it_is_applied(mapped: bool, long_files: Path) -> None:
    path = long_files / "loras" / "a.safetensors"
    if mapped:
        assert {name: tuple(tensor.shape) for name, tensor in read_lora(path).tensors.items()} == {
            name: shape for name, (_, shape) in LORA.items()
        }
    else:
        with pytest.raises(safetensors.SafetensorError):
            read_lora(path)


def test_the_identity_of_an_encoder_is_read_alike(mapped: bool, long_files: Path) -> None:
    path = long_files / "text_encoders" / "a.safetensors"
    whole = write_model(long_files / "whole.safetensors", ENCODER)
    if mapped:
        assert encoder_identity(path, mapped) == encoder_identity(whole, mapped)
    else:
        with pytest.raises(FileRefused, match="16 bytes follow the last tensor"):
            encoder_identity(path, mapped)
