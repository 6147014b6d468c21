"""LoRA strengths in a segment's prompt: what is read, whose row it is, and what is refused."""

from typing import Any

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.long_video.lora_tags import LoraTag, strength_inputs, take_tags


@pytest.mark.parametrize(
    ("prompt", "text", "tags"),
    [
        ("a cat,  walking", "a cat,  walking", ()),
        ("a cat <lora:pan:0.8> walks", "a cat walks", (LoraTag("pan", 0.8, 0.8),)),
        ("<lora: My LoRA v1.2 : 1 : -.5>a cat", "a cat", (LoraTag("My LoRA v1.2", 1.0, -0.5),)),
        ("a <LORA:pan> cat <lora:zoom:0>", "a cat", (LoraTag("pan", 1.0, 1.0), LoraTag("zoom", 0.0, 0.0))),
        ("<lora:pan:2>", "", (LoraTag("pan", 2.0, 2.0),)),
        ("a < b <lorax> <loras:1>", "a < b <lorax> <loras:1>", ()),
    ],
)
def test_tags_are_taken_out_of_the_prompt(prompt: str, text: str, tags: tuple[LoraTag, ...]) -> None:
    assert take_tags(prompt) == (text, tags)


@pytest.mark.parametrize("words", ["", ":1", " :1", "pan:", "pan:much", "pan:1:2:3", "pan:21", "pan:nan", "pan:1:inf"])
def test_a_tag_that_cannot_be_read_is_refused(words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        take_tags(f"a cat <lora:{words}>")
    assert str(refused.value) == (
        "prompts must have LoRAs as <lora:name:strength> or <lora:name:high_noise:low_noise>, strengths from -20 to "
        f"20; got <lora:{words}>."
    )


@pytest.mark.parametrize("prompt", ["a <lora:pan:1", "<lora:zoom:1> a <lora:pan:1", "<lora:pan:1<lora:zoom:1>"])
def test_a_tag_without_its_end_is_no_text_of_the_prompt(prompt: str) -> None:
    with pytest.raises(InvalidInput, match=r"; got <lora:pan:1 without its end\.$"):
        take_tags(prompt)


def test_a_lora_is_named_once_a_line() -> None:
    with pytest.raises(InvalidInput, match=r"^prompts must name each LoRA once a line; got <lora:pan> twice\.$"):
        take_tags("<lora:pan:1> a <lora:PAN:2>")


def graph(**more: Any) -> dict[str, dict[str, Any]]:
    """Two nodes with LoRAs, the first with two rows and one that is off."""
    rows = {
        "high_noise_lora": "speed/wan_4step_high.safetensors",
        "low_noise_lora": "speed\\wan_4step_low.safetensors",
        "pairs": "3",
        "pairs.high_noise_lora_2": "pan_left.safetensors",
        "pairs.low_noise_lora_2": "none",
        "pairs.high_noise_lora_3": "dolly.safetensors",
        "pairs.is_on_3": False,
    }
    other = {"high_noise_lora": ["9", 0], "low_noise_lora": "pan_left_more.safetensors", "low_noise_strength": ["9", 1]}
    return {
        "1": {"class_type": "WanRelay_ApplyLoraPair", "inputs": rows | more},
        "2": {"class_type": "WanRelay_ApplyLoraPair", "inputs": other},
        "3": {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "core.safetensors"}},
    }


def test_a_tag_finds_its_row_by_the_whole_name_or_a_part_of_it() -> None:
    tags = [LoraTag("WAN_4step_low", 1.0, 0.5), LoraTag("pan_left", 0.25, 0.0), LoraTag("more", 2.0, 3.0)]
    assert strength_inputs(graph(), tags) == {
        "1": {
            "high_noise_strength": 1.0,
            "low_noise_strength": 0.5,
            "pairs.high_noise_strength_2": 0.25,
            "pairs.low_noise_strength_2": 0.0,
        },
        "2": {"high_noise_strength": 2.0, "low_noise_strength": 3.0},
    }
    assert strength_inputs(graph(), []) == {}


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("wan_4step_low.safetensors", "1"),
        ("speed/wan_4step_high", "1"),
        ("Speed\\wan_4step_high.safetensors", "1"),
        ("style", "root"),
        ("new/style", "new"),
        ("old/style.safetensors", "old"),
        ("new/sty", "new"),
        ("caf\u00e9", "accent"),
        ("v1.5", "dots"),
    ],
)
def test_a_name_may_have_its_folder_and_ending(name: str, node: str) -> None:
    files = {"root": "style", "new": "new/style", "old": "old\\style", "accent": "cafe\u0301", "dots": "Wan 2.2 v1.5"}
    nodes = graph() | {
        key: {"class_type": "WanRelay_ApplyLoraPair", "inputs": {"high_noise_lora": f"{file}.safetensors"}}
        for key, file in files.items()
    }
    assert list(strength_inputs(nodes, [LoraTag(name, 1.0, 1.0)])) == [node]


def test_both_files_of_a_row_in_one_line_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^prompts: <lora:step_low> names a row of Apply LoRA Pair that another"):
        strength_inputs(graph(), [LoraTag("step_high", 0.8, 0.8), LoraTag("step_low", 0.5, 0.5)])


def test_rows_are_read_only_where_a_tag_asks_for_them() -> None:
    assert strength_inputs(graph(pairs=["9", 0]), []) == {}


@pytest.mark.parametrize(
    ("name", "fits"),
    [("left", "several rows"), ("dolly", "no row that is on"), ("core", "no row that is on")],
)
def test_a_name_that_fits_no_row_or_several_is_refused(name: str, fits: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        strength_inputs(graph(), [LoraTag(name, 1.0, 1.0)])
    assert str(refused.value) == (
        f"prompts: <lora:{name}> fits {fits} of Apply LoRA Pair; there are speed/wan_4step_high.safetensors and "
        "speed\\wan_4step_low.safetensors, pan_left.safetensors, pan_left_more.safetensors."
    )


def test_without_any_lora_that_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"fits no row that is on of Apply LoRA Pair; there is none\.$"):
        strength_inputs({"3": graph()["3"]}, [LoraTag("pan", 1.0, 1.0)])
