"""The node as a whole: schema, skips, chains, reports and refusals."""

import asyncio
import importlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.sd
import comfy.utils
import pytest
from wan_relay.nodes.apply_lora_pair import ApplyLoraPair
from wan_relay.nodes.load_experts import LoadExperts
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.files import lora_keys
from wan_relay.nodes.rules.files.safetensors_header import read_header
from wan_relay.tests.nodes.model_folders import use_folders
from wan_relay.tests.tiny_models import write_model

pytestmark = pytest.mark.comfy
EXPERTS = ("toy_wan2.2_i2v_high_noise.safetensors", "toy_wan2.2_i2v_low_noise.safetensors")
LORAS = ("toy_wan2.2_i2v_high_noise_4step_lora.safetensors", "toy_wan2.2_i2v_low_noise_4step_lora.safetensors")


@pytest.fixture(autouse=True)
def folders(toy_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, toy_models)


@pytest.fixture(scope="module")
def pair(toy_models: Path) -> tuple[Any, Any]:
    high, low = (comfy.sd.load_diffusion_model(str(toy_models / "diffusion_models" / name)) for name in EXPERTS)
    return high, low


def apply(high: Any, low: Any, **inputs: Any) -> tuple[Any, Any, dict[str, Any]]:
    defaults = {
        "high_noise_lora": LORAS[0],
        "low_noise_lora": LORAS[1],
        "high_noise_strength": 1.0,
        "low_noise_strength": 1.0,
    }
    output = ApplyLoraPair.execute(high_noise=high, low_noise=low, **(defaults | inputs))
    report = json.loads(output.args[2])
    assert output.ui == {"wan_relay": [report]}
    return output.args[0], output.args[1], report


def queue(monkeypatch: pytest.MonkeyPatch, **inputs: Any) -> list[str]:
    execution = importlib.import_module("execution")
    classes = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    monkeypatch.setitem(classes, "WanRelay_LoadExperts", LoadExperts)
    monkeypatch.setitem(classes, "WanRelay_ApplyLoraPair", ApplyLoraPair)
    experts = dict(zip(("high_noise", "low_noise"), EXPERTS, strict=True)) | {"weight_dtype": "default"}
    defaults = {"high_noise": ["1", 0], "low_noise": ["1", 1], "high_noise_strength": 1.0, "low_noise_strength": 1.0}
    prompt = {
        "1": {"class_type": "WanRelay_LoadExperts", "inputs": experts},
        "2": {"class_type": "WanRelay_ApplyLoraPair", "inputs": {**defaults, **inputs}},
    }
    _, errors, _ = asyncio.run(execution.validate_inputs("job", prompt, "2", {}))
    return [error["details"] for error in errors]


def counts(file: str, strength: float, applied: int) -> dict[str, Any]:
    return {
        "file": file,
        "strength": strength,
        "applied": applied,
        "harmless": 0,
        "unmatched": 0,
        "layers": applied // 3,
        "examples": [],
    }


def test_schema_is_the_contract(toy_models: Path) -> None:
    info = ApplyLoraPair.GET_NODE_INFO_V1()
    required, optional = info["input"]["required"], info["input"]["optional"]
    order = [name for names in info["input_order"].values() for name in names]
    assert (info["name"], info["display_name"], info["category"]) == (
        "WanRelay_ApplyLoraPair",
        "Wan Relay: Apply LoRA Pair",
        "wan relay",
    )
    assert sorted(order) == sorted([*required, *optional])
    assert (list(required), list(optional)) == (
        ["high_noise", "high_noise_lora", "low_noise_lora", "high_noise_strength", "low_noise_strength"],
        ["low_noise"],
    )
    files = ["none", *sorted(os.listdir(toy_models / "loras"))]
    assert (required["high_noise_lora"][1]["options"], required["low_noise_lora"][1]["options"]) == (files, files)
    for name in ("high_noise_strength", "low_noise_strength"):
        assert [required[name][1][key] for key in ("default", "min", "max")] == [1.0, -20.0, 20.0]
    assert (info["output"], info["output_name"]) == (
        ["MODEL", "MODEL", "STRING"],
        ["high_noise", "low_noise", "report"],
    )
    assert all(spec[1]["tooltip"] for spec in [*required.values(), *optional.values()])
    assert all(info["output_tooltips"])


def num_keys(toy_models: Path, name: str) -> int:
    return len(read_header(toy_models / "loras" / name).tensors)


def test_each_expert_gets_its_own_lora(pair: tuple[Any, Any], toy_models: Path) -> None:
    high, low, report = apply(*pair, low_noise_strength=-0.5)
    assert report == {
        "high_noise": counts(LORAS[0], 1.0, num_keys(toy_models, LORAS[0])),
        "low_noise": counts(LORAS[1], -0.5, num_keys(toy_models, LORAS[1])),
        "warnings": [],
    }
    assert {patches[0][0] for patches in high.patches.values()} == {1.0}
    assert {patches[0][0] for patches in low.patches.values()} == {-0.5}
    assert (pair[0].patches, pair[1].patches) == ({}, {})


def count_calls(monkeypatch: pytest.MonkeyPatch, *functions: tuple[Any, str]) -> Counter[str]:
    """The functions stay what they are; the counter returned says how often each was called."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return call

    for owner, name in functions:
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    return calls


@pytest.mark.parametrize(("low_lora", "num_files"), [(LORAS[1], 2), (LORAS[0], 1)])
def test_a_job_reads_each_file_once_and_each_key_once(
    pair: tuple[Any, Any], toy_models: Path, monkeypatch: pytest.MonkeyPatch, low_lora: str, num_files: int
) -> None:
    """The two files of a pair have the same keys, so that these are translated once for both."""
    lora_keys.read_keys.cache_clear()
    calls = count_calls(
        monkeypatch,
        (comfy.utils, "load_torch_file"),
        (comfy.lora, "load_lora"),
        (lora_keys.LayerNames, "read_key"),
    )
    assert ApplyLoraPair.validate_inputs(LORAS[0], low_lora) is True
    apply(*pair, low_noise_lora=low_lora)
    assert calls == {"load_torch_file": num_files, "load_lora": 2, "read_key": num_keys(toy_models, LORAS[0])}


def test_none_and_strength_zero_pass_the_model_through(pair: tuple[Any, Any]) -> None:
    high, low, report = apply(*pair, high_noise_lora="none", low_noise_strength=0.0)
    assert (high, low) == pair
    assert report == {"high_noise": None, "low_noise": counts(LORAS[1], 0.0, 0), "warnings": []}
    high, low, report = apply(*pair, high_noise_lora="none", low_noise_lora="none")
    assert (high, low) == pair
    assert report["warnings"] == ["Both LoRAs are none: the experts pass through unchanged."]


def test_chained_nodes_add_up_and_a_second_4_step_lora_warns(pair: tuple[Any, Any]) -> None:
    first = apply(*pair)
    high, low, report = apply(first[0], first[1], low_noise_lora="none")
    assert {len(patches) for patches in high.patches.values()} == {2}
    assert {len(patches) for patches in low.patches.values()} == {1}
    assert [sentence.split(" are both")[0] for sentence in report["warnings"]] == [
        f"high_noise_lora: {LORAS[0]} and {EXPERTS[0]}"
    ]


def test_a_4_step_lora_on_a_merged_checkpoint_warns() -> None:
    names = [name.replace(".safetensors", "_4step.safetensors") for name in EXPERTS]
    loaded = LoadExperts.execute(*names, "default").args
    _, _, report = apply(loaded[0], loaded[1])
    assert [sentence.split(" are both")[0] for sentence in report["warnings"]] == [
        f"high_noise_lora: {LORAS[0]} and {names[0]}",
        f"low_noise_lora: {LORAS[1]} and {names[1]}",
    ]


def test_the_wrong_slot_warns_by_name(pair: tuple[Any, Any]) -> None:
    _, _, report = apply(*pair, low_noise_lora=LORAS[0])
    assert report["warnings"] == [f"low_noise_lora: the name {LORAS[0]} speaks of the high-noise expert."]


def test_one_model_takes_one_lora(pair: tuple[Any, Any], toy_models: Path) -> None:
    high, low, report = apply(pair[0], None, low_noise_lora="none")
    assert (len(high.patches), low, report["low_noise"]) == (num_keys(toy_models, LORAS[0]) // 3, None, None)
    with pytest.raises(InvalidInput, match=r"^low_noise_lora: expected none because low_noise has no model, got 'toy_"):
        apply(pair[0], None)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (
            {"high_noise_lora": "gone.safetensors", "low_noise_lora": "none"},
            "high_noise_lora: 'gone.safetensors' not in [",
        ),
        ({"high_noise_lora": "none", "low_noise_lora": "../../x"}, "low_noise_lora: '../../x' not in ["),
    ],
)
def test_unknown_files_are_refused_when_queued(
    monkeypatch: pytest.MonkeyPatch, inputs: dict[str, str], sentence: str
) -> None:
    assert [detail.split(" - ", 1)[1].startswith(sentence) for detail in queue(monkeypatch, **inputs)] == [True, True]


def test_among_many_loras_the_closest_name_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, tmp_path)
    for name in (*(f"{number:02}" for number in range(20)), "sub/style_high"):
        write_model(tmp_path / "loras" / f"{name}.safetensors", {"a": ("F16", (1,))})
    nested = str(Path("sub") / "style_high.safetensors")
    assert ApplyLoraPair.validate_inputs("sub\\style_high.safetensors", "none") == (
        "high_noise_lora: 'sub\\style_high.safetensors' not in (list of length 21); the closest name there is "
        f"'{nested}'"
    )
    assert ApplyLoraPair.validate_inputs("none", "style.gguf") == (
        "low_noise_lora: 'style.gguf' not in (list of length 21)"
    )
    with pytest.raises(InvalidInput, match="the closest name there is"):
        ApplyLoraPair.execute(None, "style_high.safetensors", "none", 1.0, 1.0)


def test_good_loras_are_queued_and_strengths_keep_comfyuis_own_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue(monkeypatch, high_noise_lora=LORAS[0], low_noise_lora="none") == []
    names = {"high_noise_lora": LORAS[0], "low_noise_lora": "none"}
    assert queue(monkeypatch, **names, high_noise_strength=20.5) == ["high_noise_strength"]


def test_files_that_are_no_wan_lora_are_refused_when_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, tmp_path)
    key = "lora_unet_single_blocks_0_linear1"
    flux = {f"{key}.lora_down.weight": ("F16", (4, 8)), f"{key}.lora_up.weight": ("F16", (8, 4))}
    path = write_model(tmp_path / "loras" / "flux.safetensors", flux)
    sentence = ApplyLoraPair.validate_inputs("flux.safetensors", "none")
    assert str(sentence).startswith(
        "high_noise_lora: expected a LoRA for this Wan expert, but none of the 2 keys of flux"
    )
    path.write_bytes(path.read_bytes()[:-1])
    assert "flux.safetensors is cut short" in str(ApplyLoraPair.validate_inputs("none", "flux.safetensors"))


def test_a_replaced_file_changes_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, tmp_path)
    path = write_model(tmp_path / "loras" / "a.safetensors", {"a.lora_up.weight": ("F16", (2, 2))})
    names = {"high_noise_lora": "a.safetensors", "low_noise_lora": "none", "high_noise_strength": 1.0}
    before = ApplyLoraPair.fingerprint_inputs(**names)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert ApplyLoraPair.fingerprint_inputs(**names) != before
