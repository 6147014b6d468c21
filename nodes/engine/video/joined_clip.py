"""Clips one after the other, each beginning with the last frames of the one before."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...rules.errors import InvalidInput
from .anchor_frame import num_anchors
from .clip_file import AT_ONCE, ClipFile
from .colour_drift import CLIP_BEFORE, FIRST_FRAME, NOT_MATCHED, ColourRun, Light, check_colour_reference, colour_run
from .video_file import check_images

CROSS_FADE = "cross-fade"
JOINS = ("drop", CROSS_FADE)


class JoinedClip(NamedTuple):
    """What is joined so far: `num_frames` of `file`, then `tail` [overlap, H, W, 3], which the next clip repeats.

    `first` is the light of the first frame, `colours` what was done to the colours of the clip that came last.
    Never changed: `followed_by` gives another one, which writes on in the same file. Where that goes on otherwise
    already (another last prompt, in a run before), it gets a copy.
    """

    file: ClipFile
    num_frames: int
    tail: torch.Tensor
    first: Light
    colours: ColourRun

    @classmethod
    def of(
        cls, frames: torch.Tensor, overlap: int, matches_colour: bool = False, colour_reference: str = CLIP_BEFORE
    ) -> JoinedClip:
        """A first clip [N, H, W, 3]. Its colours change with colour_reference `first frame` alone."""
        _check(frames, overlap, overlap, "The first clip")
        check_colour_reference(colour_reference)
        first = Light.of(frames[0])
        reference = first if colour_reference == FIRST_FRAME else None
        colours = colour_run(frames, None, reference) if matches_colour else _unmatched(colour_reference)
        height, width, channels = frames.shape[1:]
        file = ClipFile((height, width, channels))
        num_settled = len(frames) - overlap
        _append(file, frames[:num_settled], colours, 0)
        return cls(file, num_settled, colours.apply(frames[num_settled:], num_settled).clone(), first, colours)

    def followed_by(
        self,
        frames: torch.Tensor,
        join: str = "drop",
        matches_colour: bool = True,
        colour_reference: str = CLIP_BEFORE,
    ) -> JoinedClip:
        """With the clip `frames` [N, H, W, 3], whose first frames show what `tail` shows.

        drop: those first frames are left out. cross-fade: they are blended, evenly from `tail` to `frames`. An anchor
        (see anchor_frame) in the place of the first of them is left out, and tells nothing of colours.
        colour_reference: `clip before` matches the shared frames, `first frame` takes a drift back too (see
        colour_drift). Raises InvalidInput for another size, or for fewer than twice as many frames as are shared.
        """
        overlap = len(self.tail)
        _check(frames, overlap, 2 * overlap, "A clip")
        if frames.shape[1:] != self.tail.shape[1:]:
            sizes = ["x".join(map(str, (image.shape[2], image.shape[1]))) for image in (self.tail, frames)]
            raise InvalidInput(f"All clips must have one size; one of {sizes[0]} is followed by one of {sizes[1]}.")
        check_colour_reference(colour_reference)
        reference = self.first if colour_reference == FIRST_FRAME else None
        anchors = num_anchors(frames[:overlap], self.tail) if matches_colour or join == CROSS_FADE else 0
        colours = colour_run(frames, self.tail, reference, anchors) if matches_colour else _unmatched(colour_reference)
        file = self.file if self.file.num_frames == self.num_frames else self.file.copy(self.num_frames)
        file.append(_seam(self.tail, colours.apply(frames[:overlap], 0), join, anchors))
        num_settled = len(frames) - overlap
        _append(file, frames[overlap:num_settled], colours, overlap)
        tail = colours.apply(frames[num_settled:], num_settled).clone()
        return JoinedClip(file, self.num_frames + num_settled, tail, self.first, colours)

    def images(self) -> torch.Tensor:
        """All frames, with the tail: an IMAGE whose pages lie in a file."""
        file = self.file if self.file.num_frames == self.num_frames else self.file.copy(self.num_frames)
        file.append(self.tail)
        return file.frames(self.num_frames + len(self.tail))

    @property
    def length(self) -> int:
        return self.num_frames + len(self.tail)


def _unmatched(colour_reference: str) -> ColourRun:
    return ColourRun(note=NOT_MATCHED if colour_reference == FIRST_FRAME else None)


def _append(file: ClipFile, frames: torch.Tensor, colours: ColourRun, index: int) -> None:
    """A few at a time; the first of them is frame `index` of its clip."""
    for start in range(0, len(frames), AT_ONCE):
        file.append(colours.apply(frames[start : start + AT_ONCE], index + start))


def _seam(before: torch.Tensor, after: torch.Tensor, join: str, anchors: int) -> torch.Tensor:
    if join not in JOINS:
        raise InvalidInput(f"join must be one of {', '.join(JOINS)}; got {join!r}.")
    if join == "drop" or not len(before):
        return before
    steps = len(before) - anchors + 1
    share = torch.arange(1 - anchors, steps, dtype=torch.float32, device=after.device) / steps
    return torch.lerp(before.float().to(after.device), after.float(), share.view(-1, 1, 1, 1))


def _check(frames: torch.Tensor, overlap: int, least: int, what: str) -> None:
    check_images(frames)
    if frames.shape[3] != 3:
        raise InvalidInput(f"{what} must have 3 channels; got {frames.shape[3]}.")
    if len(frames) < least:
        raise InvalidInput(f"{what} has {len(frames)} frames; with an overlap of {overlap} it must have {least}.")
