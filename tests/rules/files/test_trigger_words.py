"""Trigger words out of the metadata of real trainers, and out of damaged metadata."""

import json
from typing import Any

import pytest
from wan_relay.nodes.rules.files.trigger_words import MAX_CHARACTERS, MAX_WORDS, trigger_words

KOHYA = {
    "ss_dataset_dirs": json.dumps({"10_orbit": {"n_repeats": 10, "img_count": 20}, "1_more": {"img_count": 8}}),
    "ss_tag_frequency": json.dumps(
        {"10_orbit": {"orbit 360": 20, "a man": 11, "camera": 18}, "1_more": {"slow": 7, "zoom": 8}}
    ),
}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, []),
        ({"modelspec.trigger_phrase": "orbit 360, camera orbits"}, ["orbit 360", "camera orbits"]),
        ({"trained_words": '["a", " b\\n c ", 5, "a"]', **KOHYA}, ["a", "b c"]),
        ({"ss_tag_frequency": '{"1_p3r5on": {"p3r5on": 1}}'}, ["p3r5on"]),
        (KOHYA, ["orbit 360", "camera", "zoom"]),
        ({"ss_tag_frequency": KOHYA["ss_tag_frequency"]}, []),
        ({"ss_datasets": '[{"subsets": [{"class_tokens": "sks woman"}, {"class_tokens": null}, 3]}]'}, ["sks woman"]),
        # Captions that are sentences of their own say nothing.
        ({"ss_tag_frequency": '{"100_x": {"a woman by a car": 1, "a woman on a beach": 3}}'}, []),
        ({"trigger_word": "w" * MAX_CHARACTERS + ",v" + "w" * MAX_CHARACTERS}, ["w" * MAX_CHARACTERS]),
    ],
)
def test_words_of_each_trainer(metadata: dict[str, Any], words: list[str]) -> None:
    assert trigger_words(metadata) == words


@pytest.mark.parametrize("key", ["modelspec.trigger_phrase", "ss_datasets", "ss_dataset_dirs", "ss_tag_frequency"])
@pytest.mark.parametrize(
    "value",
    [None, 5, "", "[", "{", "[" * 100_000, "[[1]]", '{"a": 5}', '{"a": {"b": "c"}}', '{"a": {"b": true}}', ["x", {}]],
)
def test_damaged_metadata_gives_no_word_and_no_error(key: str, value: Any) -> None:
    expected = ["x"] if value == ["x", {}] and key == "modelspec.trigger_phrase" else []
    assert trigger_words({key: value}) == expected


def test_there_is_an_end() -> None:
    assert len(trigger_words({"trigger_words": ",".join(f"word {number}" for number in range(1000))})) == MAX_WORDS
