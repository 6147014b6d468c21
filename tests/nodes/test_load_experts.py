"""The node as a whole: the file list, the checks when a job is queued, and what it gives."""

import asyncio
import importlib
import json
import os
from pathlib import Path
from typing import Any

import folder_paths
import pytest
from wan_relay.nodes.engine.files.model_files import expert_files, find_expert
from wan_relay.nodes.load_experts import LoadExperts
from wan_relay.nodes.rules.errors import FileRefused, InvalidInput
from wan_relay.nodes.rules.files.expert_files import check_pair
from wan_relay.tests.nodes.model_folders import use_folders
from wan_relay.tests.tiny_models import expert_listing, write_gguf, write_model

pytestmark = pytest.mark.comfy
HIGH, LOW, ONE = (
    f"toy_wan2.2_{name}.safetensors" for name in ("i2v_high_noise_4step", "i2v_low_noise_4step", "ti2v_5b")
)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_folders(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def toys(toy_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_folders(monkeypatch, toy_models)
    return toy_models


def queue(monkeypatch: pytest.MonkeyPatch, **inputs: Any) -> list[str]:
    """What ComfyUI's own validation of a queued job says about the node."""
    execution = importlib.import_module("execution")
    classes = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    monkeypatch.setitem(classes, "WanRelay_LoadExperts", LoadExperts)
    prompt = {"1": {"class_type": "WanRelay_LoadExperts", "inputs": {"weight_dtype": "default", **inputs}}}
    _, errors, _ = asyncio.run(execution.validate_inputs("job", prompt, "1", {}))
    return [error["details"] for error in errors]


def test_schema_is_the_contract(toys: Path) -> None:
    info = LoadExperts.GET_NODE_INFO_V1()
    required = info["input"]["required"]
    files = list(expert_files())
    assert (info["name"], info["display_name"], info["category"]) == (
        "WanRelay_LoadExperts",
        "Wan Relay: Load Experts",
        "wan relay",
    )
    assert {name: spec[1]["options"] for name, spec in required.items()} == {
        "high_noise": files,
        "low_noise": [*files, "none"],
        "weight_dtype": ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"],
    }
    assert (info["output"], info["output_name"]) == (
        ["MODEL", "MODEL", "STRING"],
        ["high_noise", "low_noise", "report"],
    )
    assert all(spec[1]["tooltip"] for spec in required.values())
    assert all(info["output_tooltips"])
    assert required["weight_dtype"][1]["advanced"]


def test_files_are_listed_over_all_folders_without_ambiguity(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "diffusion_models/a.safetensors",
        "diffusion_models/HighNoise/b.safetensors",
        "unet/c.sft",
        "unet/d.pt",
        "checkpoints/a.safetensors",
        "checkpoints/e.safetensors",
        "checkpoints/f.ckpt",
        "checkpoints/h.safetensors",
        "diffusion_models/g.gguf",
    ):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(b"")
    for folder in ("diffusion_models", "checkpoints"):
        (models / folder / "lost.safetensors").symlink_to(models / "gone")
    (models / "diffusion_models" / "h.safetensors").symlink_to(models / "checkpoints" / "h.safetensors")
    nested = str(Path("HighNoise") / "b.safetensors")
    expected = {
        nested: f"diffusion_models/{nested}",
        "a.safetensors": "diffusion_models/a.safetensors",
        "c.sft": "unet/c.sft",
        "h.safetensors": "diffusion_models/h.safetensors",
        "lost.safetensors": "diffusion_models/lost.safetensors",
        "a.safetensors [checkpoints]": "checkpoints/a.safetensors",
        "e.safetensors": "checkpoints/e.safetensors",
        "lost.safetensors [checkpoints]": "checkpoints/lost.safetensors",
    }
    lost = [name for name in expected if name.startswith("lost")]
    listed = expert_files()
    assert list(listed) == list(expected)
    assert {name: str(file.path.relative_to(models)) for name, file in listed.items() if name not in lost} == {
        name: place for name, place in expected.items() if name not in lost
    }
    for name in lost:
        with pytest.raises(InvalidInput, match=r"^low_noise: 'lost\.safetensors.* not in \["):
            find_expert("low_noise", name)
    classes = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    monkeypatch.setitem(classes, "UnetLoaderGGUF", object)
    assert list(expert_files()) == list(expected)
    gguf_folders = ([str(models / "diffusion_models")], {".gguf"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "unet_gguf", gguf_folders)
    assert list(expert_files()) == [*list(expected)[:5], "g.gguf", *list(expected)[5:]]


def test_a_good_pair_is_queued_and_loaded(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue(monkeypatch, high_noise=HIGH, low_noise=LOW) == []
    output = LoadExperts.execute(HIGH, LOW, "default")
    high, low, report = output.args
    folder = toys / "diffusion_models"
    assert json.loads(report) == check_pair(folder / HIGH, folder / LOW)
    assert output.ui == {"wan_relay": [json.loads(report)]}
    assert high.model is not low.model


def test_ti2v_5b_gives_one_model(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue(monkeypatch, high_noise=ONE, low_noise="none") == []
    high, low, report = LoadExperts.execute(ONE, "none", "default").args
    assert (high.model.model_config.unet_config["out_dim"], low, json.loads(report)["low_noise"]) == (48, None, None)


@pytest.mark.parametrize(
    ("high", "low", "sentence"),
    [
        (HIGH, HIGH, f"low_noise: {HIGH} holds the same weights as {HIGH} in high_noise"),
        (HIGH, "none", f"low_noise: expected the low-noise partner of {HIGH}, got none"),
        (HIGH, ONE, f"low_noise: {ONE} is the Wan2.2 TI2V-5B model"),
        (HIGH, "toy_wan2.2_t2v_low_noise_4step.safetensors", "low_noise: expected a Wan2.2 I2V expert beside"),
        ("none", LOW, "high_noise: 'none' not in ["),
        (HIGH, "gone.safetensors", "low_noise: 'gone.safetensors' not in ["),
        (HIGH, "../vae/toy_wan2.2_vae.safetensors", "low_noise: '../vae/toy_wan2.2_vae.safetensors' not in ["),
        ("a.gguf", LOW, "high_noise: 'a.gguf' needs the ComfyUI-GGUF node pack, which is not installed."),
    ],
)
def test_bad_pairs_are_refused_when_queued_and_again_when_run(
    toys: Path, monkeypatch: pytest.MonkeyPatch, high: str, low: str, sentence: str
) -> None:
    details = queue(monkeypatch, high_noise=high, low_noise=low)
    assert [detail.split(" - ", 1)[1].startswith(sentence) for detail in details] == [True, True]
    with pytest.raises((FileRefused, InvalidInput)) as refusal:
        LoadExperts.execute(high, low, "default")
    assert str(refusal.value).startswith(sentence)


def test_among_many_files_the_closest_name_is_offered(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write_model(models / "checkpoints" / f"{number:02}.safetensors", {"a": ("F16", (1,))})
    nested = write_model(models / "diffusion_models" / "wan22" / "wan_high.safetensors", expert_listing(), seed=1)
    write_model(models / "diffusion_models" / "wan_low.safetensors", expert_listing(), seed=2)
    assert nested.exists()
    details = queue(monkeypatch, high_noise="wan22\\wan_high.safetensors", low_noise="wan_low.safetensors")
    assert details[0] == (
        "high_noise - high_noise: 'wan22\\wan_high.safetensors' not in (list of length 22); the closest name there is "
        f"'{Path('wan22') / 'wan_high.safetensors'}'"
    )
    with pytest.raises(InvalidInput, match=r"the closest name there is 'wan_low\.safetensors'"):
        LoadExperts.execute(str(Path("wan22") / "wan_high.safetensors"), "wan-low.safetensors", "default")


def test_linked_names_are_checked_when_run(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LoadExperts.validate_inputs(high_noise=HIGH) is True
    assert LoadExperts.validate_inputs(low_noise=LOW) is True


def test_other_inputs_keep_comfyuis_own_check(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (detail,) = queue(monkeypatch, high_noise=HIGH, low_noise=LOW, weight_dtype="fp4")
    assert detail.startswith("weight_dtype: 'fp4' not in [")


def test_a_replaced_file_changes_the_fingerprint(models: Path) -> None:
    for seed, name in enumerate(("high", "low")):
        write_model(models / "diffusion_models" / f"{name}.safetensors", expert_listing(), seed=seed)
    names = {"high_noise": "high.safetensors", "low_noise": "low.safetensors", "weight_dtype": "default"}
    before = LoadExperts.fingerprint_inputs(**names)
    assert LoadExperts.fingerprint_inputs(**names) == before
    path = models / "diffusion_models" / "low.safetensors"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert LoadExperts.fingerprint_inputs(**names) != before
    assert LoadExperts.fingerprint_inputs(weight_dtype="default") == "[]"


def test_truncated_gguf_and_checkpoint_files_are_refused_by_their_header(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = write_model(models / "checkpoints" / "low.safetensors", expert_listing(), seed=2)
    gguf = write_gguf(models / "checkpoints" / "high.gguf", expert_listing())
    (models / "diffusion_models").mkdir()
    gguf = gguf.rename(models / "diffusion_models" / "high.gguf")
    gguf.write_bytes(gguf.read_bytes()[:-64])
    classes = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    monkeypatch.setitem(classes, "UnetLoaderGGUF", object)
    folder = ([str(models / "diffusion_models")], {".gguf"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "unet_gguf", folder)
    (first, _) = queue(monkeypatch, high_noise="high.gguf", low_noise=low.name)
    assert "high_noise: high.gguf is cut short" in first
