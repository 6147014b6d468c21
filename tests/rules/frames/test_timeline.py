"""Where everything that is given lies in a clip, and what excludes what."""

from typing import Any

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.timeline import LOOSE, FramePlan, Given, plan_frames


def plan(length: int = 33, is_5b: bool = False, **given: Any) -> FramePlan:
    return plan_frames(Given(**({"overlap": 5} | given)), length, is_5b)


def drawn(length: int = 33, is_5b: bool = False, **given: Any) -> str:
    """`known 0, unknown 1-32`"""
    ends = [(s["kind"], s["first"], s["last"]) for s in plan(length, is_5b, **given).spans]
    return ", ".join(f"{kind} {first}" + (f"-{last}" if last > first else "") for kind, first, last in ends)


@pytest.mark.parametrize(
    ("given", "spans"),
    [
        ({}, "unknown 0-32"),
        ({"start_image": 1}, "known 0, unknown 1-32"),
        ({"start_image": 3, "end_image": 2}, "known 0-2, unknown 3-30, known 31-32"),
        ({"start_image": 99}, "known 0-32"),
        ({"start_image": 2, "loop": True}, "known 0-1, unknown 2-31, known 32"),
        ({"previous": 81}, "overlap 0-4, unknown 5-32"),
        ({"previous": 81, "overlap": 1, "end_image": 1}, "overlap 0, unknown 1-31, known 32"),
        ({"previous": 81, "overlap": 1, "end_image": 5, "loop": True}, "overlap 0, unknown 1-31, known 32"),
        ({"anchor": 1}, "anchor 0, unknown 1-32"),
        ({"anchor": 1, "padding": "reference"}, "anchor 0, unknown 1-32"),
        ({"anchor": 1, "previous": 81, "overlap": 9}, "anchor 0, overlap 1-8, unknown 9-32"),
        ({"anchor": 1, "previous_latent": 21, "padding": "zero"}, "anchor 0, overlap 1-4, unknown 5-32"),
        ({"anchor": 1, "previous": 81, "overlap": 1}, "anchor 0, overlap 1-4, unknown 5-32"),
        ({"anchor": 1, "previous": 81, "padding": "reference"}, "overlap 0-4, unknown 5-32"),
        ({"anchor": 1, "start_image": 1, "padding": "reference"}, "known 0, unknown 1-32"),
        ({"keyframes": (0, 16, -1)}, "keyframe 0, unknown 1-15, keyframe 16, unknown 17-31, keyframe 32"),
        (
            {"start_image": 1, "keyframes": (8, 4)},
            "known 0, unknown 1-3, keyframe 4, unknown 5-7, keyframe 8, unknown 9-32",
        ),
    ],
)
def test_the_whole_clip_in_spans(given: dict[str, Any], spans: str) -> None:
    assert drawn(**given) == spans


def test_ti2v_5b_keeps_whole_latent_frames() -> None:
    assert drawn(is_5b=True, start_image=7) == "known 0-4, unknown 5-32"
    assert drawn(is_5b=True, previous=7) == "overlap 0-4, unknown 5-32"


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (2, 1), (3, 5), (5, 5), (6, 5), (7, 9), (8, 9)])
def test_overlap_is_on_the_latent_grid(asked: int, used: int) -> None:
    got = plan(previous=81, overlap=asked)
    assert got.overlap == used
    assert got.spans[0] == {"kind": "overlap", "first": 0, "last": used - 1}
    said = f"overlap {asked} is brought to {used}: whole latent frames."
    assert got.warnings == ([said] if asked != used else [])
    assert got.changes == ([{"change": "overlap", "asked": asked, "used": used}] if asked != used else [])


@pytest.mark.parametrize(
    ("asked", "used"),
    [(0, 0), (1, 0), (2, 4), (4, 4), (9, 8), (10, 12), (31, 32), (-1, 32), (-2, 32), (-5, 28), (-33, 0)],
)
def test_keyframes_are_on_the_latent_grid(asked: int, used: int) -> None:
    got = plan(keyframes=(asked,))
    assert got.keyframes == (used,)
    is_moved = used not in (asked, asked + 33)
    moved = [f"keyframe {asked} is put at frame {used}: the latent grid holds every fourth."] if is_moved else []
    loose = [] if used in (0, 32) else [LOOSE]
    assert got.warnings == moved + loose
    changes = [{"change": "keyframe", "asked": asked, "used": used}] if is_moved else []
    assert got.changes == changes + ([{"change": "middle"}] if loose else [])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keyframes": (33,)}, "keyframe 33 must lie in the video, from 0 to 32, or from -33 to -1."),
        ({"keyframes": (-34,)}, "keyframe -34 must lie in the video"),
        ({"keyframes": (10, 12)}, "keyframe 12 comes to frame 12, which is known already (keyframe)."),
        ({"keyframes": (1,), "start_image": 1}, "keyframe 1 comes to frame 0, which is known already (known)."),
        ({"keyframes": (-1,), "end_image": 1}, "keyframe -1 comes to frame 32, which is known already (known)."),
        ({"keyframes": (4,), "previous": 81}, "keyframe 4 comes to frame 4, which is known already (overlap)."),
        ({"keyframes": (-1,), "start_image": 1, "loop": True}, "keyframe -1 comes to frame 32, which is known"),
        ({"previous": 4}, "previous must have the 5 frames that overlap takes, got 4."),
        ({"previous": 81, "overlap": 33}, "overlap takes 33 frames and leaves none of length 33 to make."),
        ({"previous": 81, "overlap": 0}, "overlap must be at least 1 frame, got 0."),
        ({"previous": 81, "start_image": 1}, "start_image must stay empty with previous"),
        ({"previous_latent": 9, "start_image": 1, "anchor": 1}, "start_image must stay empty with previous"),
        ({"previous": 81, "previous_latent": 21, "anchor": 1}, "previous and previous_latent are both connected"),
        ({"previous_latent": 21}, "previous_latent needs an anchor, and padding 'grey' or 'zero'"),
        ({"previous_latent": 21, "anchor": 1, "padding": "reference"}, "previous_latent needs an anchor"),
        (
            {"previous_latent": 1, "anchor": 1, "overlap": 9},
            "must have the 2 latent frames that overlap 9 takes, got 1.",
        ),
        ({"start_image": 1, "anchor": 1, "padding": "zero"}, "start_image must stay empty with anchor"),
        (
            {"anchor": 1, "previous": 81, "end_image": 29},
            "length 33 must hold the clip before and end_image, but they have 5 and 29 frames.",
        ),
        ({"loop": True, "previous": 81}, "loop needs a start_image and no end_image"),
        ({"loop": True}, "loop needs a start_image and no end_image"),
        ({"loop": True, "start_image": 1, "end_image": 1}, "loop needs a start_image and no end_image"),
        ({"padding": "reference", "end_image": 1}, "padding is 'reference', but neither anchor nor start_image"),
        ({"padding": "black"}, "padding must be 'grey', 'zero' or 'reference', got 'black'."),
    ],
)
def test_what_cannot_be_is_one_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        plan(**given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"end_image": 1}, "end_image must stay empty"),
        ({"anchor": 1}, "anchor must stay empty"),
        ({"keyframes": (0,)}, "keyframes must stay empty"),
        ({"previous_latent": 21}, "previous_latent must stay empty"),
        ({"start_image": 1, "loop": True}, "loop must be off"),
        ({"start_image": 1, "padding": "zero"}, "padding must be 'grey'"),
    ],
)
def test_ti2v_5b_keeps_first_frames_only(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        plan(is_5b=True, **given)
    assert str(refused.value) == (
        f"{words} with wan2.2_vae: TI2V-5B can only keep the first frames; use the A14B experts with wan_2.1_vae."
    )
