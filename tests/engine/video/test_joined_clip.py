"""Clips joined in a file: whole tensors, colours, what several runs write, and what is held in memory."""

import gc
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import folder_paths
import pytest
import torch
from wan_relay.nodes.engine.video import colour_match
from wan_relay.nodes.engine.video.anchor_frame import num_anchors
from wan_relay.nodes.engine.video.clip_file import ClipFile
from wan_relay.nodes.engine.video.colour_drift import ColourRun
from wan_relay.nodes.engine.video.colour_match import (
    MAX_GAIN,
    MAX_OFFSET,
    ColourChange,
    from_light,
    match_colour,
    to_light,
)
from wan_relay.nodes.engine.video.joined_clip import JoinedClip
from wan_relay.nodes.rules.errors import InvalidInput, VideoNotSaved

pytestmark = pytest.mark.comfy

NOT_THE_SAME = "The frames that two clips share do not show the same, so their colours were not matched."


@pytest.fixture(autouse=True)
def temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    return tmp_path / "temp"


def picture(count: int, seed: int = 0, size: tuple[int, int] = (12, 16)) -> torch.Tensor:
    return torch.rand(count, *size, 3, generator=torch.Generator().manual_seed(seed))


def clips(num_clips: int, length: int, overlap: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A video, and its parts, each of which begins with the last frames of the one before."""
    step = length - overlap
    whole = picture(num_clips * step + overlap)
    return whole, [whole[index * step : index * step + length] for index in range(num_clips)]


def joined(parts: list[torch.Tensor], overlap: int, join: str = "drop", matches_colour: bool = True) -> torch.Tensor:
    clip = JoinedClip.of(parts[0], overlap)
    for part in parts[1:]:
        clip = clip.followed_by(part, join, matches_colour)
    return clip.images()


@pytest.mark.parametrize("overlap", [0, 1, 5])
@pytest.mark.parametrize("join", ["drop", "cross-fade"])
def test_parts_of_a_video_give_the_video(overlap: int, join: str) -> None:
    whole, parts = clips(4, 13, overlap)
    torch.testing.assert_close(joined(parts, overlap, join, matches_colour=False), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(joined(parts, overlap, join), whole, rtol=0, atol=1e-5)


def test_a_cross_fade_goes_evenly_from_one_clip_to_the_other() -> None:
    black, white = torch.zeros(9, 4, 4, 3), torch.ones(9, 4, 4, 3)
    made = joined([black, white], 4, "cross-fade", matches_colour=False)
    assert len(made) == 14
    expected = torch.tensor([0.0] * 5 + [0.2, 0.4, 0.6, 0.8] + [1.0] * 5)
    torch.testing.assert_close(made, expected.view(-1, 1, 1, 1).expand(made.shape), rtol=0, atol=1e-6)
    dropped = joined([black, white], 4, "drop", matches_colour=False)
    torch.testing.assert_close(dropped[:, 0, 0, 0], torch.tensor([0.0] * 9 + [1.0] * 5))


def test_the_colours_of_a_shifted_clip_come_back() -> None:
    _, (first, second) = clips(2, 9, 1)
    gain, offset = torch.tensor([0.9, 1.05, 1.1]), torch.tensor([0.01, -0.005, 0.0])
    shifted = from_light(to_light(second * 0.8 + 0.1) * gain + offset)
    target = torch.cat([first * 0.8 + 0.1, second[1:] * 0.8 + 0.1])
    assert (shifted - second * 0.8 - 0.1).abs().max() > 0.03
    made = joined([first * 0.8 + 0.1, shifted], 1)
    torch.testing.assert_close(made, target, rtol=0, atol=1e-4)
    change = match_colour(shifted[:1], first[-1:] * 0.8 + 0.1)
    torch.testing.assert_close(torch.tensor(change.gain), 1 / gain, rtol=1e-3, atol=0)


def test_a_cut_changes_no_colour_and_says_so() -> None:
    change = match_colour(picture(1, 1), picture(1, 2))
    assert change.is_none
    assert change.note == NOT_THE_SAME


def test_pictures_that_differ_in_one_channel_do_not_show_the_same() -> None:
    frames, target = scene(1).repeat(3, 1, 1, 1), scene(1).repeat(3, 1, 1, 1)
    frames[..., 2] = scene(2)[..., 2]
    assert match_colour(frames, target).note == NOT_THE_SAME
    frames[1:] = target[1:]
    assert num_anchors(frames, target) == 1


def test_a_broken_frame_at_a_clips_end_does_not_break_the_next_clip() -> None:
    _, (first, second) = clips(2, 9, 1)
    first[-1] = math.nan
    clip = JoinedClip.of(first, 1).followed_by(second)
    assert clip.colours == ColourRun(ColourChange(note=NOT_THE_SAME), note=NOT_THE_SAME)
    assert torch.equal(clip.images()[9:], second[1:])


def test_all_shared_frames_count_together_and_are_read_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = picture(4) * torch.tensor([0.2, 0.9, 0.5, 1.4]).view(4, 1, 1, 1)  # the last is clipped in part
    target = from_light(to_light(frames) * torch.tensor([0.9, 1.05, 1.1]) + 0.01) + 0.05 * picture(4, 1)
    beside = match_colour(*(clip.flatten(0, 1)[None] for clip in (frames, target)))
    sizes: list[int] = []

    def counted(codes: torch.Tensor) -> torch.Tensor:
        sizes.append(codes.numel())
        return to_light(codes)

    monkeypatch.setattr(colour_match, "to_light", counted)
    change = match_colour(frames, target)
    assert [change.gain, change.offset] == [pytest.approx(beside.gain), pytest.approx(beside.offset)]
    assert not beside.is_none
    assert sizes == [frames[0].numel()] * 8


def scene(seed: int) -> torch.Tensor:
    """A picture [1, 24, 32, 3] with large shapes, as pictures have them."""
    rough = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, (24, 32), mode="bicubic").clamp(0.05, 0.9).movedim(1, -1)


@pytest.mark.parametrize("join", ["drop", "cross-fade"])
@pytest.mark.parametrize("moved", [3, 8, 16])
def test_an_anchor_is_no_frame_of_the_video_and_tells_nothing_of_colours(join: str, moved: int) -> None:
    """A clip of SVI 2.0 Pro: its anchor, four frames that the clip before has too, and what is new."""
    pan = torch.cat([scene(1).roll(step + moved, dims=2) for step in range(17)])
    shifted = from_light(to_light(pan[4:]) * 0.95 + 0.01)
    made = joined([pan[:9], torch.cat([scene(1), shifted[1:]])], 5, join)
    torch.testing.assert_close(made, pan, rtol=0, atol=1e-5)


def test_shared_frames_that_are_noisy_all_count() -> None:
    frames = scene(1).repeat(5, 1, 1, 1)
    noisy = (frames + 0.02 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert num_anchors(noisy, frames) == 0
    assert num_anchors(torch.cat([scene(2), noisy[1:]]), frames) == 1
    cut = scene(2).repeat(5, 1, 1, 1)
    assert num_anchors(cut, frames) == num_anchors(frames[:1], cut[:1]) == 0


def test_a_first_clip_may_be_as_short_as_what_it_hands_on() -> None:
    whole = picture(13)
    assert torch.equal(JoinedClip.of(whole[:1], 1).images(), whole[:1])
    assert torch.equal(JoinedClip.of(whole[:5], 5).followed_by(whole, matches_colour=False).images(), whole)
    with pytest.raises(InvalidInput, match="The first clip has 4 frames; with an overlap of 5 it must have 5"):
        JoinedClip.of(whole[:4], 5)


def test_a_wild_difference_is_bounded_and_a_flat_picture_is_only_moved() -> None:
    dark = picture(1) * 0.3 + 0.05
    bright = from_light(to_light(dark) * 3 + 0.2)
    change = match_colour(dark, bright)
    assert change.gain == pytest.approx((MAX_GAIN,) * 3)
    assert change.offset == pytest.approx((MAX_OFFSET,) * 3)
    grey = torch.full((1, 4, 4, 3), 0.5)
    change = match_colour(grey, from_light(to_light(grey) + 0.01))
    assert change.gain == (1.0, 1.0, 1.0)
    assert change.offset == pytest.approx((0.01,) * 3, rel=1e-3)


def test_light_and_back_is_the_same() -> None:
    codes = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(from_light(to_light(codes)), codes, rtol=0, atol=2e-6)
    torch.testing.assert_close(to_light(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.0, 0.2140411, 1.0]))


def test_what_was_given_out_stays_when_a_clip_goes_on_in_two_ways() -> None:
    whole, (first, second, third) = clips(3, 9, 1)
    start = JoinedClip.of(first, 1).followed_by(second)
    one = start.followed_by(third)
    shown = one.images()
    kept = shown.clone()
    other = start.followed_by(torch.cat([third[:1], third[1:].flip(0)]))  # another last prompt, the same segments
    again = start.followed_by(third)
    for clip, images in ((one, shown), (again, again.images())):
        torch.testing.assert_close(images, whole, rtol=0, atol=1e-5)
        assert clip.length == len(whole)
    torch.testing.assert_close(other.images()[-8:], whole[-8:].flip(0), rtol=0, atol=1e-5)
    assert torch.equal(shown, kept)


def test_a_file_has_no_name_and_ends_with_its_last_tensor(temp_folder: Path) -> None:
    def open_files() -> int:
        links = (Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
        return sum(str(temp_folder) in os.readlink(link) for link in links if link.is_symlink())

    images = joined(clips(2, 9, 1)[1], 1)
    assert list(temp_folder.iterdir()) == []
    assert images.sum() > 0
    images += 0.0  # other nodes may write into an image
    del images
    gc.collect()
    assert open_files() == 0


def test_twenty_clips_take_no_more_memory_than_two(tmp_path: Path) -> None:
    """In a process of its own: what others left here is given back at any time.

    Clips of real sizes (over 32 MB) are given back to the system once they are dropped. Small ones leave holes in
    glibc's heap, between the tails that are kept, or not, as it happens; with this threshold they do as the large ones.
    """
    script, root = Path(__file__).with_name("join_many_clips.py"), Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(root), os.environ["COMFYUI_PATH"], str(tmp_path)],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    held = json.loads(done.stdout)
    assert held["frames"] == 20 * 15 + 1
    assert held["mean"] > 0.4
    more = (held["after_twenty_mb"] - held["after_two_mb"]) / held["clip_mb"]
    assert more < 2, f"18 more clips take as much as {more:.1f} of them"


def test_a_full_disk_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 600_000_000}))
    file = ClipFile((12, 16, 3))
    file.append(picture(1))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 500_000_000}))
    with pytest.raises(VideoNotSaved) as refused:
        file.append(picture(2))
    assert str(refused.value) == (
        "2 frames need 0 MB in the temp folder, on which 500 MB are free; 500 MB must stay free."
    )
    assert file.num_frames == 1


def test_what_cannot_be_joined_is_refused() -> None:
    clip = JoinedClip.of(picture(9), 5 - 1)
    refusals = {
        "All clips must have one size; one of 16x12 is followed by one of 8x12.": picture(9, size=(12, 8)),
        "A clip has 7 frames; with an overlap of 4 it must have 8.": picture(7),
        "A clip must have 3 channels; got 4.": torch.rand(9, 12, 16, 4),
    }
    for sentence, frames in refusals.items():
        with pytest.raises(InvalidInput) as refused:
            clip.followed_by(frames)
        assert str(refused.value) == sentence
    with pytest.raises(InvalidInput, match="join must be one of drop, cross-fade; got 'blend'"):
        clip.followed_by(picture(9), "blend")
