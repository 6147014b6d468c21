"""A drift that grows inside each clip, over five that go on from each other: what is left of it, and no step."""

from pathlib import Path

import folder_paths
import pytest
import torch
from wan_relay.nodes.engine.video.colour_drift import (
    CLIP_BEFORE,
    FIRST_FRAME,
    OTHER_COLOURS,
    Light,
    brought_to,
    colour_run,
)
from wan_relay.nodes.engine.video.colour_match import ColourChange, from_light, to_light
from wan_relay.nodes.engine.video.joined_clip import JoinedClip
from wan_relay.nodes.rules.errors import InvalidInput

pytestmark = pytest.mark.comfy

NUM_CLIPS, LENGTH = 5, 17
GAIN, OFFSET = torch.tensor([0.996, 1.003, 1.002]), torch.tensor([0.0004, 0.0008, -0.0003])  # of each frame


@pytest.fixture(autouse=True)
def temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path))


def picture(seed: int = 0) -> torch.Tensor:
    """[12, 16, 3], in the middle of the range."""
    return 0.3 + 0.3 * torch.rand(12, 16, 3, generator=torch.Generator().manual_seed(seed))


def drifting(start: torch.Tensor) -> torch.Tensor:
    """[LENGTH, 12, 16, 3]: what a sampler makes of `start` that shifts colours a little with each frame."""
    light = [to_light(start)]
    while len(light) < LENGTH:
        light.append(light[-1] * GAIN + OFFSET)
    return from_light(torch.stack(light))


def chain(overlap: int, *matching: bool | str) -> torch.Tensor:
    joined = JoinedClip.of(drifting(picture()), overlap, *matching)
    for _ in range(NUM_CLIPS - 1):
        frames = drifting(joined.tail[-1] if overlap == 1 else joined.tail[0])
        frames[:overlap] = joined.tail
        if overlap > 1:
            frames[overlap - 1 :] = drifting(joined.tail[-1])[: LENGTH - overlap + 1]
        joined = joined.followed_by(frames, "drop", *matching)
    return 255 * joined.images()


def worst_mean(frames: torch.Tensor) -> float:
    """The largest difference of a frame's mean colour from the first frame's, of 255."""
    means = frames.mean(dim=(1, 2))
    return (means - means[0]).abs().max().item()


@pytest.mark.parametrize("overlap", [1, 5])
def test_a_drift_inside_each_clip_is_taken_back(overlap: int) -> None:
    length = NUM_CLIPS * LENGTH - (NUM_CLIPS - 1) * overlap
    by_before, by_first = (chain(overlap, True, reference) for reference in (CLIP_BEFORE, FIRST_FRAME))
    assert len(by_before) == len(by_first) == length
    assert worst_mean(by_before) > 14  # the shared frames match each other and show none of it
    assert worst_mean(by_first) < 0.2
    assert (by_first - by_first[0]).abs().max() < 1  # of every pixel
    steps = by_first.mean(dim=(1, 2)).diff(dim=0).abs().max()
    assert steps < 0.1  # and nothing jumps at a join


def test_without_matching_nothing_changes() -> None:
    torch.testing.assert_close(chain(1, False, FIRST_FRAME), chain(1, False, CLIP_BEFORE), rtol=0, atol=0)
    one = JoinedClip.of(drifting(picture()), 1, True, CLIP_BEFORE)
    torch.testing.assert_close(one.images(), drifting(picture()), rtol=0, atol=1e-6)


def test_clips_that_share_no_frame_are_matched_at_both_ends() -> None:
    first = JoinedClip.of(picture().expand(LENGTH, -1, -1, -1), 0, True, FIRST_FRAME)
    shifted = from_light(to_light(drifting(picture())) * 1.1)
    frames = 255 * first.followed_by(shifted, "drop", True, FIRST_FRAME).images()
    assert worst_mean(frames) < 0.2


def test_the_change_runs_evenly_from_the_shared_frames_to_the_last() -> None:
    frames = drifting(picture())
    run = colour_run(frames, frames[:5], Light.of(picture()))
    assert (run.begin, run.last, run.note) == (4, LENGTH - 1, None)
    assert run.start.gain == pytest.approx((1.0,) * 3, abs=1e-5)
    assert run.end is not None
    assert run.end.gain == pytest.approx((1 / GAIN**16).tolist(), rel=1e-4)
    whole = run.apply(frames, 0)
    torch.testing.assert_close(whole[:5], frames[:5], rtol=0, atol=1e-5)
    torch.testing.assert_close(whole[-1], picture(), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat([run.apply(frames[:7], 0), run.apply(frames[7:], 7)]), whole, rtol=0, atol=0)
    assert set(run.report) == {"gain", "offset", "end_gain", "end_offset"}


def test_a_scene_that_changes_is_left_alone() -> None:
    frames = drifting(picture())
    bright = torch.cat(
        [frames[:1], torch.lerp(frames[1:], torch.ones(3), torch.linspace(0, 0.6, 16).view(-1, 1, 1, 1))]
    )
    run = colour_run(bright, frames[:1], Light.of(picture()))
    assert (run.end, run.note) == (None, OTHER_COLOURS)
    assert "end_gain" not in run.report
    cut = colour_run(torch.stack([picture(1)] * 9), picture(2)[None], Light.of(picture(2)))
    assert cut.start.is_none
    assert cut.note == "The frames that two clips share do not show the same, so their colours were not matched."


def test_a_flat_frame_is_only_moved() -> None:
    grey = torch.full((4, 4, 3), 0.5)
    change = brought_to(Light.of(from_light(to_light(grey) + 0.01)), grey)
    assert change.gain == (1.0, 1.0, 1.0)
    assert change.offset == pytest.approx((0.01,) * 3, rel=1e-3)


def test_a_fade_to_black_and_a_broken_frame_are_no_drift() -> None:
    dim = from_light(to_light(picture()) * 0.05)
    black = torch.zeros_like(dim)
    broken = dim.clone()
    broken[0, 0, 0] = float("nan")
    for frame, reference in ((black, dim), (dim, black), (broken, dim)):
        assert brought_to(Light.of(reference), frame) == ColourChange(note=OTHER_COLOURS)


def test_clips_that_share_no_frame_and_begin_elsewhere_say_so() -> None:
    light = Light.of(picture())
    elsewhere = torch.cat([torch.ones(1, *picture().shape[-3:]) * 0.9, picture().expand(8, -1, -1, -1)])
    for frames in (elsewhere, elsewhere[:1]):
        assert colour_run(frames, picture()[:0], light).note == OTHER_COLOURS


def test_another_reference_is_refused() -> None:
    for make in (
        lambda: JoinedClip.of(drifting(picture()), 1, True, "start"),
        lambda: JoinedClip.of(drifting(picture()), 1).followed_by(drifting(picture()), "drop", True, "start"),
    ):
        with pytest.raises(InvalidInput) as refused:
            make()
        assert str(refused.value) == "colour_reference must be one of clip before, first frame; got 'start'."
