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
    assert output.args[3] == ", ".join(report["trigger_words"])
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
        "trigger_words": [],
    }


def of_one_row(high: dict[str, Any] | None, low: dict[str, Any] | None, *warnings: str) -> dict[str, Any]:
    return {"pairs": [{"high_noise": high, "low_noise": low}], "trigger_words": [], "warnings": list(warnings)}


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
        ["low_noise", "is_on", "pairs"],
    )
    options = optional["pairs"][1]["options"]
    assert [option["key"] for option in options] == ["1", "2", "3", "4", "5", "6"]
    row = ["high_noise_lora", "low_noise_lora", "high_noise_strength", "low_noise_strength", "is_on"]
    for index, option in enumerate(options):
        assert option["inputs"]["required"] == {}
        further = [f"{name}_{number}" for number in range(2, index + 2) for name in row]
        assert list(option["inputs"].get("optional", {})) == further
    files = ["none", *sorted(os.listdir(toy_models / "loras"))]
    assert (required["high_noise_lora"][1]["options"], required["low_noise_lora"][1]["options"]) == (files, files)
    for name in ("high_noise_strength", "low_noise_strength"):
        assert [required[name][1][key] for key in ("default", "min", "max")] == [1.0, -20.0, 20.0]
    assert (info["output"], info["output_name"]) == (
        ["MODEL", "MODEL", "STRING", "STRING"],
        ["high_noise", "low_noise", "report", "trigger_words"],
    )
    assert all(spec[1]["tooltip"] for spec in [*required.values(), *optional.values()])
    assert all(info["output_tooltips"])


def validate(high_lora: str, low_lora: str, **inputs: Any) -> bool | str:
    return ApplyLoraPair.validate_inputs(high_noise_lora=high_lora, low_noise_lora=low_lora, **inputs)


def num_keys(toy_models: Path, name: str) -> int:
    return len(read_header(toy_models / "loras" / name).tensors)


def test_each_expert_gets_its_own_lora(pair: tuple[Any, Any], toy_models: Path) -> None:
    high, low, report = apply(*pair, low_noise_strength=-0.5)
    assert report == of_one_row(
        counts(LORAS[0], 1.0, num_keys(toy_models, LORAS[0])), counts(LORAS[1], -0.5, num_keys(toy_models, LORAS[1]))
    )
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
    assert validate(LORAS[0], low_lora) is True
    apply(*pair, low_noise_lora=low_lora)
    assert calls == {"load_torch_file": num_files, "load_lora": 2, "read_key": num_keys(toy_models, LORAS[0])}


def test_none_and_strength_zero_pass_the_model_through(pair: tuple[Any, Any]) -> None:
    high, low, report = apply(*pair, high_noise_lora="none", low_noise_strength=0.0)
    assert (high, low) == pair
    assert report == of_one_row(None, counts(LORAS[1], 0.0, 0))
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
    assert (len(high.patches), low) == (num_keys(toy_models, LORAS[0]) // 3, None)
    assert report["pairs"][0]["low_noise"] is None
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
    said = {detail.partition(" - ")[2] for detail in queue(monkeypatch, **inputs)}  # ComfyUI says it once an input
    assert [each.startswith(sentence) for each in said] == [True]


def test_among_many_loras_the_closest_name_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, tmp_path)
    for name in (*(f"{number:02}" for number in range(20)), "sub/style_high"):
        write_model(tmp_path / "loras" / f"{name}.safetensors", {"a": ("F16", (1,))})
    nested = str(Path("sub") / "style_high.safetensors")
    assert validate("sub\\style_high.safetensors", "none") == (
        "high_noise_lora: 'sub\\style_high.safetensors' not in (list of length 21); the closest name there is "
        f"'{nested}'"
    )
    assert validate("none", "style.gguf") == ("low_noise_lora: 'style.gguf' not in (list of length 21)")
    with pytest.raises(InvalidInput, match="the closest name there is"):
        apply("a model", None, high_noise_lora="style_high.safetensors", low_noise_lora="none")


def test_good_loras_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue(monkeypatch, high_noise_lora=LORAS[0], low_noise_lora="none") == []
    names = {"high_noise_lora": LORAS[0], "low_noise_lora": "none"}
    assert queue(monkeypatch, **names, high_noise_strength="much")[0].startswith("high_noise_strength, much")


def test_files_that_are_no_wan_lora_are_refused_when_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, tmp_path)
    key = "lora_unet_single_blocks_0_linear1"
    flux = {f"{key}.lora_down.weight": ("F16", (4, 8)), f"{key}.lora_up.weight": ("F16", (8, 4))}
    path = write_model(tmp_path / "loras" / "flux.safetensors", flux)
    sentence = validate("flux.safetensors", "none")
    assert str(sentence).startswith(
        "high_noise_lora: expected a LoRA for this Wan expert, but none of the 2 keys of flux"
    )
    path.write_bytes(path.read_bytes()[:-1])
    assert "flux.safetensors is cut short" in str(validate("none", "flux.safetensors"))


def test_a_replaced_file_changes_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_folders(monkeypatch, tmp_path)
    path = write_model(tmp_path / "loras" / "a.safetensors", {"a.lora_up.weight": ("F16", (2, 2))})
    names = {"high_noise_lora": "a.safetensors", "low_noise_lora": "none", "high_noise_strength": 1.0}
    before = ApplyLoraPair.fingerprint_inputs(**names)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert ApplyLoraPair.fingerprint_inputs(**names) != before


def test_a_workflow_from_before_there_were_rows_has_one(pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue(monkeypatch, high_noise_lora=LORAS[0], low_noise_lora=LORAS[1]) == []
    assert len(apply(*pair)[2]["pairs"]) == 1


ROWS = {"pairs": "3", "pairs.high_noise_lora_2": LORAS[0], "pairs.low_noise_strength_2": 0.5, "pairs.is_on_3": False}
SECOND = {"pairs.low_noise_lora_2": LORAS[1]}
THIRD = {"pairs.high_noise_lora_3": LORAS[0], "pairs.low_noise_lora_3": LORAS[1]}


def nested(inputs: dict[str, Any]) -> dict[str, Any]:
    """As ComfyUI hands the inputs of a dynamic one over."""
    return {"pairs": {name.removeprefix("pairs."): value for name, value in inputs.items()}}


@pytest.mark.parametrize("as_sent", [dict, nested])
def test_rows_add_up_each_with_its_own_strength_and_a_row_that_is_off_does_nothing(
    pair: tuple[Any, Any], toy_models: Path, as_sent: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    high, low, report = apply(*pair, high_noise_strength=0.25, **as_sent({**ROWS, **SECOND, **THIRD}))
    keys = num_keys(toy_models, LORAS[0])
    assert report["pairs"] == [
        {"high_noise": counts(LORAS[0], 0.25, keys), "low_noise": counts(LORAS[1], 1.0, keys)},
        {"high_noise": counts(LORAS[0], 1.0, keys), "low_noise": counts(LORAS[1], 0.5, keys)},
        {"high_noise": None, "low_noise": None},
    ]
    assert {tuple(each[0] for each in patches) for patches in high.patches.values()} == {(0.25, 1.0)}
    assert {tuple(each[0] for each in patches) for patches in low.patches.values()} == {(1.0, 0.5)}
    assert [warning.split(":")[0] for warning in report["warnings"]] == ["high_noise_lora_2", "low_noise_lora_2"]


def test_two_rows_are_two_chained_nodes(pair: tuple[Any, Any]) -> None:
    second = {"high_noise_lora_2": LORAS[0], "low_noise_lora_2": LORAS[1], "low_noise_strength_2": 0.5}
    rows = apply(*pair, high_noise_strength=0.25, pairs={"pairs": "2", **second})
    first = apply(*pair, high_noise_strength=0.25)
    chained = apply(*first[:2], low_noise_strength=0.5)
    for mine, theirs in zip(rows[:2], chained[:2], strict=True):
        assert mine.patches.keys() == theirs.patches.keys()
        for name, patches in mine.patches.items():
            assert [each[0] for each in patches] == [each[0] for each in theirs.patches[name]]


def test_a_first_row_that_is_off_leaves_the_others(pair: tuple[Any, Any]) -> None:
    high, low, report = apply(*pair, is_on=False, **nested({"pairs": "2", "pairs.high_noise_lora_2": LORAS[0]}))
    assert (len(high.patches) > 0, low is pair[1], report["warnings"]) == (True, True, [])
    high, low, report = apply(*pair, is_on=False)
    assert (high, low) == pair
    assert report["warnings"] == ["Every LoRA is none or off: the experts pass through unchanged."]


def test_further_rows_are_checked_when_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"high_noise_lora": "none", "low_noise_lora": "none"}
    assert queue(monkeypatch, **names, **ROWS, **SECOND, **THIRD) == []
    for inputs, sentence in (
        ({**ROWS, "pairs.low_noise_lora_2": "gone.safetensors"}, "low_noise_lora_2: 'gone.safetensors' not in ["),
        ({**ROWS, "pairs.low_noise_strength_2": 20.5}, "low_noise_strength_2 must be from -20 to 20, not 20.5."),
        ({"high_noise_strength": -21}, "high_noise_strength must be from -20 to 20, not -21.0."),
        ({"pairs": "2", "pairs.high_noise_lora_2": 5}, "high_noise_lora_2 must be the name of a file, not 5."),
        ({"pairs": "9"}, "pairs must be a whole number from 1 to 6, not '9'."),
        ({"pairs": "2", **THIRD}, "high_noise_lora_3: expected no such row because pairs is 2."),
        ({"high_noise_lora_2": LORAS[0]}, "high_noise_lora_2: expected no such row because pairs is 1."),
    ):
        said = {detail.partition(" - ")[2] for detail in queue(monkeypatch, **names, **inputs)}
        assert [each.startswith(sentence) for each in said] == [True], sentence
    whole_number = {**ROWS, "pairs": 3}
    assert queue(monkeypatch, **names, **whole_number) == []
    assert queue(monkeypatch, **names, **whole_number, **{"pairs.low_noise_lora_2": "gone"}) != []


def test_trigger_words_of_every_file_come_out_once(
    pair: tuple[Any, Any], toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_folders(monkeypatch, tmp_path)
    listing = {
        name: (info.dtype, info.shape) for name, info in read_header(toy_models / "loras" / LORAS[0]).tensors.items()
    }
    for name, words in (("a_high", "orbit 360, slow"), ("a_low", "slow"), ("b_high", "zoom"), ("off_high", "never")):
        write_model(tmp_path / "loras" / f"{name}.safetensors", listing, {"modelspec.trigger_phrase": words})
    rows: dict[str, Any] = {"pairs": "3", "pairs.high_noise_lora_2": "b_high.safetensors"}
    rows |= {"pairs.high_noise_lora_3": "off_high.safetensors", "pairs.is_on_3": False}
    files = {"high_noise_lora": "a_high.safetensors", "low_noise_lora": "a_low.safetensors"}
    _, _, report = apply(*pair, **files, **nested(rows))
    assert report["trigger_words"] == ["orbit 360", "slow", "zoom"]
    assert [pair_of["high_noise"] and pair_of["high_noise"]["trigger_words"] for pair_of in report["pairs"]] == [
        ["orbit 360", "slow"],
        ["zoom"],
        None,
    ]


def test_a_replaced_file_of_a_further_row_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_folders(monkeypatch, tmp_path)
    path = write_model(tmp_path / "loras" / "a.safetensors", {"a.lora_up.weight": ("F16", (2, 2))})
    names = {
        "high_noise_lora": "none",
        "low_noise_lora": "none",
        "pairs": "2",
        "pairs.low_noise_lora_2": "a.safetensors",
    }
    before = ApplyLoraPair.fingerprint_inputs(**names)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert ApplyLoraPair.fingerprint_inputs(**names) != before


def test_a_16_bit_expert_with_a_lora_that_does_not_fit_the_gpu_is_said(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = importlib.import_module(ApplyLoraPair.__module__)
    monkeypatch.setattr(node, "memory_for_weights", lambda device: 1_000_000)
    warnings = apply(*pair, low_noise_strength=0.0, pairs={"pairs": "2", "high_noise_lora_2": LORAS[0]})[2]["warnings"]
    assert [warning for warning in warnings if "streams" in warning] == warnings[-1:]
    assert warnings[-1].startswith(
        f"high_noise: {EXPERTS[0]} has 0.0 GB of 16-bit weights and about 0.0 GB fit the GPU"
    )
    monkeypatch.setattr(node, "memory_for_weights", lambda device: None)
    assert apply(*pair)[2]["warnings"] == []
