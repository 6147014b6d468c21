"""How a long video is cut: lengths, prompts, seeds, sentences, refusals."""

from typing import Any

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.long_video.lora_tags import LoraTag
from wan_relay.nodes.rules.long_video.segment_plan import (
    LongVideoPlan,
    Segment,
    plan_long_video,
    prompt_lines,
    whole_numbers,
)


def plan(length: int = 161, segment_length: int = 81, overlap: int = 1, seed: int = 7, **more: Any) -> LongVideoPlan:
    return plan_long_video(length, segment_length, overlap, seed, **more)


def test_ten_seconds_are_two_passes_of_81_with_one_frame_shared() -> None:
    made = plan()
    assert made == LongVideoPlan((Segment(81, 7, None), Segment(81, 8, None)), 1, ())
    assert made.num_frames == 161
    assert made.attention_ratio == pytest.approx(2 * 21**2 / 41**2)


@pytest.mark.parametrize(
    ("length", "segment_length", "overlap", "lengths"),
    [
        (81, 81, 1, [81]),
        (5, 81, 1, [5]),
        (1, 81, 1, [1]),
        (9, 81, 33, [9]),  # one segment shares nothing
        (49, 81, 33, [49]),
        (81, 81, 33, [81]),
        (85, 81, 1, [45, 41]),  # not 81 and a stub of 5
        (201, 81, 1, [69, 69, 65]),
        (161, 49, 1, [41] * 4),
        (161, 81, 5, [57, 57, 57]),
        (157, 81, 5, [81, 81]),
        (161, 81, 17, [65, 65, 65]),
    ],
)
def test_lengths_are_few_and_even(length: int, segment_length: int, overlap: int, lengths: list[int]) -> None:
    made = plan(length, segment_length, overlap)
    assert [segment.length for segment in made.segments] == lengths
    assert (made.num_frames, made.overlap) == (length, overlap if len(lengths) > 1 else 1)
    assert made.warnings == ()


@pytest.mark.parametrize("overlap", [1, 5, 9, 13])
def test_the_frames_add_up_for_every_length(overlap: int) -> None:
    for length in range(2 * overlap + 3, 500, 4):
        length += (1 - length) % 4
        made = plan(length, 81, overlap)
        assert made.num_frames == length
        assert all(segment.length % 4 == 1 and segment.length <= 81 for segment in made.segments)
        assert max(made.segments).length - min(made.segments).length <= 4
        assert not made.warnings


def test_every_prompt_has_a_segment_and_the_last_one_goes_on() -> None:
    three = plan(161, prompts=["a", "b", "c"])
    assert [(segment.length, segment.prompt) for segment in three.segments] == [(57, "a"), (53, "b"), (53, "c")]
    assert [segment.prompt for segment in plan(241, prompts=["a", "b"]).segments] == ["a", "b", "b"]
    assert [segment.seed for segment in plan(321, seeds=[5, 2**64 - 1]).segments] == [5, 2**64 - 1, 0, 1]


def test_lengths_that_are_said_count_and_the_rest_does_not() -> None:
    made = plan(999, 9, lengths=[81, 49], prompts=["a"])
    assert made.segments == (Segment(81, 7, "a"), Segment(49, 8, "a"))
    assert (made.num_frames, made.warnings) == (129, ())


def test_loras_of_a_prompt_go_on_with_it() -> None:
    made = plan(241, prompts=["a", "<lora:pan:0.5> b"])
    pan = (LoraTag("pan", 0.5, 0.5),)
    assert made.segments == (Segment(81, 7, "a"), Segment(81, 8, "b", pan), Segment(81, 9, "b", pan))


def test_what_is_snapped_is_said() -> None:
    assert plan(160, overlap=2).warnings == (
        "overlap 2 is not of the form 4n+1; 1 frames are shared.",
        "length 160 is not of the form 4n+1; 161 frames are made.",
    )
    assert plan(lengths=[81, 50]).warnings == ("length 50 of segment 2 is not of the form 4n+1; 49 frames are made.",)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"segment_length": 5, "overlap": 5}, "segment_length must be more than overlap, which is 5; got 5."),
        (
            {"length": 1001, "segment_length": 5},
            "length 1001 in segments of 5 frames needs 250 segments; 100 are possible.",
        ),
        (
            {"lengths": [81, 9], "overlap": 5},
            "Segment 2 has 9 frames; with an overlap of 5 it must have at least 13. Ask for fewer segments, more "
            "frames or less overlap.",
        ),
        ({"lengths": [81], "prompts": ["a", "b"]}, "prompts must be at most as many as lengths, which are 1; got 2."),
        ({"lengths": [81] * 101}, "A long video must have at most 100 segments; got 101."),
        (
            {"length": 801, "prompts": ["a"] * 150},
            "Each prompt and each seed has a segment of its own: there are 150; 100 are possible.",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        plan(**inputs)
    assert str(refused.value) == sentence


def test_texts_of_the_fields() -> None:
    assert prompt_lines(" she turns \n\n\r\nand smiles\n") == ["she turns", "and smiles"]
    assert whole_numbers("seeds", " 1, 22;3\n4 ", 99) == [1, 22, 3, 4]
    assert whole_numbers("seeds", " ", 99) == []
    for text in ("1, x", "-1", "100", "1.5", "9" * 400):
        with pytest.raises(InvalidInput, match="seeds must be whole numbers from 0 to 99 with commas between; got '"):
            whole_numbers("seeds", text, 99)
