"""Clips one after the other, each beginning with the last frames of the one before."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...rules.errors import InvalidInput
from .clip_file import AT_ONCE, ClipFile
from .colour_match import ColourChange, match_colour
from .video_file import check_images

JOINS = ("drop", "cross-fade")


class JoinedClip(NamedTuple):
    """What is joined so far: `num_frames` of `file`, then `tail` [overlap, H, W, 3], which the next clip repeats.

    Never changed: `followed_by` gives another one, which writes on in the same file. Where that goes on otherwise
    already (another last prompt, in a run before), it gets a copy.
    """

    file: ClipFile
    num_frames: int
    tail: torch.Tensor

    @classmethod
    def of(cls, frames: torch.Tensor, overlap: int) -> JoinedClip:
        """A first clip [N, H, W, 3]."""
        _check(frames, overlap, "The first clip")
        settled, tail = frames[: len(frames) - overlap], frames[len(frames) - overlap :].clone()
        height, width, channels = frames.shape[1:]
        file = ClipFile((height, width, channels))
        file.append(settled)
        return cls(file, len(settled), tail)

    def followed_by(
        self, frames: torch.Tensor, join: str = "drop", matches_colour: bool = True
    ) -> tuple[JoinedClip, ColourChange]:
        """With the clip `frames` [N, H, W, 3], whose first frames show what `tail` shows.

        drop: those first frames are left out. cross-fade: they are blended, evenly from `tail` to `frames`. Raises
        InvalidInput for another size, or for fewer than twice as many frames as are shared.
        """
        overlap = len(self.tail)
        _check(frames, overlap, "A clip")
        if frames.shape[1:] != self.tail.shape[1:]:
            sizes = ["x".join(map(str, (image.shape[2], image.shape[1]))) for image in (self.tail, frames)]
            raise InvalidInput(f"All clips must have one size; one of {sizes[0]} is followed by one of {sizes[1]}.")
        change = match_colour(frames[:overlap], self.tail) if matches_colour and overlap else ColourChange()
        file = self.file if self.file.num_frames == self.num_frames else self.file.copy(self.num_frames)
        file.append(_seam(self.tail, change.apply(frames[:overlap]), join))
        new = frames[overlap:]
        settled, tail = new[: len(new) - overlap], change.apply(new[len(new) - overlap :])
        for some in settled.split(AT_ONCE):
            file.append(change.apply(some))
        return JoinedClip(file, self.num_frames + overlap + len(settled), tail.clone()), change

    def images(self) -> torch.Tensor:
        """All frames, with the tail: an IMAGE whose pages lie in a file."""
        file = self.file if self.file.num_frames == self.num_frames else self.file.copy(self.num_frames)
        file.append(self.tail)
        return file.frames(self.num_frames + len(self.tail))

    @property
    def length(self) -> int:
        return self.num_frames + len(self.tail)


def _seam(before: torch.Tensor, after: torch.Tensor, join: str) -> torch.Tensor:
    if join not in JOINS:
        raise InvalidInput(f"join must be one of {', '.join(JOINS)}; got {join!r}.")
    if join == "drop" or not len(before):
        return before
    share = torch.arange(1, len(before) + 1, dtype=torch.float32, device=after.device) / (len(before) + 1)
    return torch.lerp(before.float().to(after.device), after.float(), share.view(-1, 1, 1, 1))


def _check(frames: torch.Tensor, overlap: int, what: str) -> None:
    check_images(frames)
    if frames.shape[3] != 3:
        raise InvalidInput(f"{what} must have 3 channels; got {frames.shape[3]}.")
    least = max(1, 2 * overlap)
    if len(frames) < least:
        raise InvalidInput(f"{what} has {len(frames)} frames; with an overlap of {overlap} it must have {least}.")
