"""Rows out of a node's inputs, nested as ComfyUI hands them over or flat as they were sent."""

from typing import Any

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.files.lora_rows import LoraRow, input_name, read_rows

FIRST = {"high_noise_lora": "a", "low_noise_lora": "b", "high_noise_strength": 0.5, "low_noise_strength": 2}
SECOND = {"high_noise_lora_2": "c", "low_noise_strength_2": -1.0, "is_on_2": False}
ROWS = [LoraRow(1, "a", "b", 0.5, 2.0), LoraRow(2, "c", "none", 1.0, -1.0, False)]


@pytest.mark.parametrize(
    "further",
    [
        {"pairs": {"pairs": "2", **SECOND}},
        {"pairs": "2", **{f"pairs.{name}": value for name, value in SECOND.items()}},
        {"pairs": 2, **SECOND},
    ],
)
def test_every_way_of_sending_a_second_row(further: dict[str, Any]) -> None:
    assert read_rows({**FIRST, **further, "high_noise": None, "something_else_2": 1}) == ROWS


def test_a_node_from_before_there_were_rows_has_one() -> None:
    assert read_rows(FIRST) == ROWS[:1]
    assert read_rows({}) == [LoraRow(1)]


def test_what_comes_later_is_not_known_and_what_was_not_sent_has_its_default() -> None:
    unsent = {"high_noise_lora_2": None, "low_noise_lora_2": "d", "high_noise_strength_2": None, "is_on_2": None}
    [_, row] = read_rows({**FIRST, "pairs": {"pairs": "2", **unsent}})
    assert row == LoraRow(2, None, "d")
    assert [row.has_lora(slot) for slot in ("high_noise", "low_noise")] == [False, True]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"pairs": "0"}, "pairs must be a whole number from 1 to 6, not '0'."),
        ({"pairs": 7}, "pairs must be a whole number from 1 to 6, not '7'."),
        ({"pairs": 1.5}, "pairs must be a whole number from 1 to 6, not '1.5'."),
        ({"is_on_2": True}, "is_on_2: expected no such row because pairs is 1."),
        ({"pairs": "2", "low_noise_lora_3": "x"}, "low_noise_lora_3: expected no such row because pairs is 2."),
        ({"high_noise_strength": float("nan")}, "high_noise_strength must be from -20 to 20, not nan."),
        ({"high_noise_strength": "1"}, "high_noise_strength must be from -20 to 20, not 1."),
        ({"low_noise_lora": ["x"]}, "low_noise_lora must be the name of a file, not ['x']."),
    ],
)
def test_what_cannot_be_is_one_sentence(inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_rows({**FIRST, **inputs})
    assert str(refusal.value) == sentence


def test_names_of_inputs() -> None:
    assert [input_name("is_on", row) for row in (1, 2, 6)] == ["is_on", "is_on_2", "is_on_6"]
