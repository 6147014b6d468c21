"""The node on the toy encoder, compared whole with ComfyUI's CLIPTextEncode on the same encoder."""

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import pytest
import torch
from wan_relay.nodes.encode_prompts import EncodePrompts
from wan_relay.nodes.engine.prompts import prompt_encoding
from wan_relay.nodes.rules.errors import FileRefused, InvalidInput
from wan_relay.nodes.rules.files.safetensors_header import read_header
from wan_relay.toy.family import text_encoder_config

pytestmark = pytest.mark.comfy
ENCODER = "toy_umt5.safetensors"


@pytest.fixture
def encoder(toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy encoder as ComfyUI's only text encoder, and an empty prompt cache."""
    folder = tmp_path / "text_encoders"
    folder.mkdir()
    path = Path(shutil.copy(toy_models / "text_encoders" / ENCODER, folder))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(folder)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setenv("WAN_RELAY_PROMPT_CACHE", str(tmp_path / "prompts"))
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of which ComfyUI loaded a text encoder."""
    loaded: list[str] = []
    real = comfy.sd.load_clip

    def counting(ckpt_paths: list[str], **options: Any) -> comfy.sd.CLIP:
        loaded.extend(ckpt_paths)
        return real(ckpt_paths, **options)

    monkeypatch.setattr(comfy.sd, "load_clip", counting)
    return loaded


def encode(prompt: str = "a cat", negative: str = "") -> tuple[list, list, dict]:
    output = EncodePrompts.execute(ENCODER, prompt, negative)
    assert output.ui is not None
    positive, negative_conditioning = output.args
    return positive, negative_conditioning, output.ui["wan_relay"][0]


def core_encode(path: Path, text: str) -> list:
    import nodes

    options = {"umt5xxl_model_config": text_encoder_config(path)}
    clip = comfy.sd.load_clip([str(path)], clip_type=comfy.sd.CLIPType.WAN, model_options=options)
    return nodes.CLIPTextEncode().encode(clip, text)[0]


def assert_same(ours: list, core: list) -> None:
    assert len(ours) == len(core)
    for (our_cond, our_extra), (core_cond, core_extra) in zip(ours, core, strict=True):
        assert torch.equal(our_cond, core_cond)
        assert our_cond.dtype == core_cond.dtype
        assert our_cond.device == core_cond.device
        assert our_extra.keys() == core_extra.keys()
        assert all(our_extra[key] == core_extra[key] for key in core_extra)


TEXTS = [
    "a cat walks through tall grass",
    "",
    "a (red:1.4) cat, [dim] light",
    "кошка идёт, 猫が歩く, 고양이 🐈",
    "a cat\0and a dog",
    "word " * 600,
    "  spaces and\nnew lines \t",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_equals_core_when_made_and_when_kept(encoder: Path, text: str) -> None:
    core = core_encode(encoder, text)
    made, _, report = encode(text)
    kept, _, again = encode(text)
    assert_same(made, core)
    assert_same(kept, core)
    assert report == {"cached": False, "warnings": []}
    assert again == {"cached": True, "warnings": []}


def test_a_lora_tag_is_words_here_and_that_is_said(encoder: Path) -> None:
    positive, negative, report = encode("a cat <lora:pan:0.8>", "<LORA:x> blurry")
    assert_same(positive, core_encode(encoder, "a cat <lora:pan:0.8>"))
    assert_same(negative, core_encode(encoder, "<LORA:x> blurry"))
    meant = "such tags count in the prompts of Long Video, and Apply LoRA Pair sets the strength for the whole video."
    assert report["warnings"] == [
        f"prompt: <lora:pan:0.8> is read as words; {meant}",
        f"negative_prompt: <LORA:x> is read as words; {meant}",
    ]


def test_negative_is_the_second_output(encoder: Path) -> None:
    positive, negative, _ = encode("a cat", "blurry")
    assert_same(positive, core_encode(encoder, "a cat"))
    assert_same(negative, core_encode(encoder, "blurry"))


def test_the_encoder_is_loaded_once_for_what_is_unknown(encoder: Path, loads: list[str]) -> None:
    encode("a cat", "blurry")
    assert loads == [str(encoder)]
    encode("blurry", "a cat")
    assert loads == [str(encoder)]
    assert encode("a dog", "blurry")[2]["cached"] is False
    assert len(loads) == 2


def test_a_fresh_process_neither_loads_nor_reads_the_encoder(encoder: Path, tmp_path: Path) -> None:
    """Another process, with a loader that fails, and the encoder moved elsewhere under another name."""
    positive, _, _ = encode("a cat", "blurry")
    torch.save(positive, tmp_path / "positive.pt")
    moved = encoder.rename(tmp_path / "elsewhere.safetensors")
    os.utime(moved, (1, 1))
    script = """
import json, os, sys
import importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("wan_relay_dev", sys.argv[1])
dev = importlib.util.module_from_spec(spec)
sys.modules["wan_relay_dev"] = dev
spec.loader.exec_module(dev)
dev.register_package()
dev.use_comfyui(Path(os.environ["COMFYUI_PATH"]))
import comfy.sd, torch
from wan_relay.nodes.engine.prompts.prompt_cache import PromptCache
from wan_relay.nodes.engine.prompts.prompt_encoding import encode_prompts
def fail(*args, **options):
    raise AssertionError("the encoder was loaded")
comfy.sd.load_clip = fail
found, cached = encode_prompts(Path(sys.argv[2]), ["a cat", "blurry"], PromptCache.from_environment())
kept = torch.load(sys.argv[3])
print(json.dumps({"cached": cached, "same": torch.equal(found[0][0][0], kept[0][0]), "extra": found[0][0][1]}))
"""
    dev = Path(__file__).parents[2] / "dev.py"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(dev), str(moved), str(tmp_path / "positive.pt")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"cached": True, "same": True, "extra": {"pooled_output": None}}


@pytest.mark.parametrize("other", ["a cat ", "A cat", "a cat\0", "a\ncat", ""])
def test_every_character_of_a_prompt_counts(encoder: Path, other: str) -> None:
    encode("a cat", "a cat")
    assert encode(other, "a cat")[2]["cached"] is False


def test_another_encoder_of_the_same_layout_is_another_key(encoder: Path, loads: list[str]) -> None:
    before, _, _ = encode()
    content = bytearray(encoder.read_bytes())
    norm = read_header(encoder).tensors["encoder.final_layer_norm.weight"]
    content[norm.begin + 1 : norm.end : 2] = b"\x42" * ((norm.end - norm.begin) // 2)
    stat = encoder.stat()
    encoder.write_bytes(content)
    os.utime(encoder, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after, _, report = encode()
    assert report["cached"] is False
    assert not torch.equal(before[0][0], after[0][0])


def test_prompts_that_name_an_embedding_file_are_not_kept(encoder: Path, loads: list[str]) -> None:
    for _ in range(2):
        assert encode("a embedding:style cat")[2]["cached"] is False
    assert len(loads) == 2


def test_a_new_comfyui_makes_new_embeddings(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode()
    monkeypatch.setattr(prompt_encoding.comfyui_version, "__version__", "0.31.0")
    assert encode()[2]["cached"] is False


def test_half_a_surrogate_pair_is_refused(encoder: Path) -> None:
    words = r"negative_prompt must be text, but its character 3 is half of a surrogate pair \(U\+D83D\)"
    with pytest.raises(InvalidInput, match=words):
        encode("a cat", "ab\ud83d")
    with pytest.raises(InvalidInput, match="prompt must be text, but its character 1 is"):
        encode("\udc00")


def test_files_are_checked_at_queue_time(encoder: Path, toy_models: Path) -> None:
    assert EncodePrompts.validate_inputs(ENCODER) is True
    assert EncodePrompts.validate_inputs("none.safetensors") == f"text_encoder: 'none.safetensors' not in ['{ENCODER}']"
    vae = toy_models / "vae" / "toy_wan_2.1_vae.safetensors"
    shutil.copy(vae, encoder.parent / "vae.safetensors")
    folder_paths.filename_list_cache.clear()
    refused = EncodePrompts.validate_inputs("vae.safetensors")
    assert "got vae.safetensors, which is another model" in str(refused)
    with pytest.raises(FileRefused, match="which is another model"):
        EncodePrompts.execute("vae.safetensors", "a cat", "")


def test_among_many_encoders_the_closest_name_is_offered(encoder: Path) -> None:
    for number in range(20):
        (encoder.parent / f"{number:02}.safetensors").write_bytes(b"")
    sentence = f"text_encoder: 'sub\\{ENCODER}' not in (list of length 21); the closest name there is '{ENCODER}'"
    assert EncodePrompts.validate_inputs(f"sub\\{ENCODER}") == sentence
    with pytest.raises(InvalidInput) as refusal:
        EncodePrompts.execute(f"sub\\{ENCODER}", "a cat", "")
    assert str(refusal.value) == sentence


def test_a_link_to_nowhere_is_not_in_the_list(encoder: Path) -> None:
    encoder.rename(encoder.parent.parent / "elsewhere")
    encoder.symlink_to("gone")
    assert EncodePrompts.validate_inputs(ENCODER) == f"text_encoder: '{ENCODER}' not in []"


def test_a_gguf_encoder_is_answered_with_what_reads_it(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = (
        "text_encoder: 'umt5-xxl-encoder-Q8_0.gguf' is a GGUF file, which ComfyUI-GGUF's CLIPLoader (GGUF) reads: set "
        "its type to wan and use two CLIP Text Encode nodes instead of this one, or choose a safetensors file here."
    )
    assert EncodePrompts.validate_inputs("umt5-xxl-encoder-Q8_0.gguf") == sentence
    (encoder.parent / "umt5-xxl-encoder-Q8_0.gguf").write_bytes(b"GGUF")
    listed = ([str(encoder.parent)], {".safetensors", ".gguf"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", listed)
    folder_paths.filename_list_cache.clear()
    assert EncodePrompts.validate_inputs("umt5-xxl-encoder-Q8_0.gguf") == sentence
    with pytest.raises(InvalidInput, match=r"^text_encoder: .* is a GGUF file"):
        EncodePrompts.execute("umt5-xxl-encoder-Q8_0.gguf", "a cat", "")


def test_a_replaced_file_changes_the_fingerprint(encoder: Path) -> None:
    others = {"prompt": "a cat", "negative_prompt": "", "type": "wan"}
    before = EncodePrompts.fingerprint_inputs(text_encoder=ENCODER, **others)
    assert EncodePrompts.fingerprint_inputs(text_encoder=ENCODER, **others) == before
    stat = encoder.stat()
    os.utime(encoder, ns=(0, stat.st_mtime_ns + 1))
    touched = EncodePrompts.fingerprint_inputs(text_encoder=ENCODER, **others)
    encoder.write_bytes(encoder.read_bytes() + b"0")
    os.utime(encoder, ns=(0, stat.st_mtime_ns))
    longer = EncodePrompts.fingerprint_inputs(text_encoder=ENCODER, **others)
    assert len({before, touched, longer}) == 3
    gone = EncodePrompts.fingerprint_inputs(text_encoder="gone.safetensors", **others)
    linked = EncodePrompts.fingerprint_inputs(text_encoder=None, **others)
    assert gone == EncodePrompts.fingerprint_inputs(text_encoder="gone.safetensors", **others)
    assert linked == EncodePrompts.fingerprint_inputs(**others)


def test_comfyui_encodes_again_after_the_file_is_replaced(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI's own account of a node's inputs, with which it decides whether the kept result still holds."""
    execution = importlib.import_module("execution")
    monkeypatch.setitem(importlib.import_module("nodes").NODE_CLASS_MAPPINGS, "WanRelay_EncodePrompts", EncodePrompts)
    inputs = {"text_encoder": ENCODER, "prompt": "a cat", "negative_prompt": "", "type": "wan"}

    def account() -> Any:
        prompt = {"1": {"class_type": "WanRelay_EncodePrompts", "inputs": inputs}}
        dynamic = importlib.import_module("comfy_execution.graph").DynamicPrompt(prompt)
        outputs = execution.CacheSet(execution.CacheType.CLASSIC).outputs
        return asyncio.run(execution.IsChangedCache("job", dynamic, outputs).get("1"))

    before = account()
    assert account() == before
    os.utime(encoder, ns=(0, encoder.stat().st_mtime_ns + 1))
    assert account() != before


def test_schema_is_the_contract(encoder: Path) -> None:
    info = EncodePrompts.GET_NODE_INFO_V1()
    inputs = info["input"]["required"]
    assert info["name"] == "WanRelay_EncodePrompts"
    assert list(inputs) == ["text_encoder", "prompt", "negative_prompt", "type"]
    assert inputs["text_encoder"][1]["options"] == [ENCODER]
    assert inputs["type"][1]["options"] == ["wan"]
    assert inputs["type"][1]["advanced"] is True
    assert info["output_name"] == ["positive", "negative"]
    assert all(spec[1].get("tooltip") for spec in inputs.values())
    assert all(info["output_tooltips"])
