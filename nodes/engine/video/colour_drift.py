"""The colour of a clip brought back to that of the video's first frame, where sampling lets it drift inside the clip.

A clip that goes on from a frame begins with that frame's colours, so that frames which two clips share show nothing of
a drift that grows from there on. It is measured at the clip's end: mean and standard deviation of linear light, a
channel each, against those of the first frame. The change begins as what matches the shared frames and runs evenly to
what the last frame needs: no step at a join, and nothing pumps.

Right where the video goes on showing the same: a person, a place, a camera that moves little. Not where the scene
really changes: another place has other colours, which this would bring to those of the first frame. Beyond the bounds
of `brought_to` nothing is changed; below them it cannot tell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...rules.errors import InvalidInput
from .colour_match import FLAT, MAX_GAIN, MAX_OFFSET, ColourChange, changed, light_of, match_colour

CLIP_BEFORE, FIRST_FRAME = "clip before", "first frame"
COLOUR_REFERENCES = (CLIP_BEFORE, FIRST_FRAME)
NOT_MATCHED = "colour_reference has no effect, because match_colour is off."
OTHER_COLOURS = "The last frame has other colours than the first one, so those of its clip were not brought to them."


class Light(NamedTuple):
    """Mean and standard deviation of linear light, [3] each, in float64."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, frame: torch.Tensor) -> Light:
        """Of [H, W, 3]."""
        light = light_of(frame).cpu()
        return cls(light.mean(dim=0), light.std(dim=0, correction=0))


class ColourRun(NamedTuple):
    """`start` up to frame `begin`, then evenly to `end`, which frame `last` has."""

    start: ColourChange = ColourChange()
    end: ColourChange | None = None  # None: `start` everywhere
    begin: int = 0
    last: int = 1
    note: str | None = None

    def apply(self, frames: torch.Tensor, index: int) -> torch.Tensor:
        """[N, H, W, 3], the first of which is frame `index` of the clip."""
        if self.end is None:
            return self.start.apply(frames)
        numbers = torch.arange(index, index + len(frames), dtype=torch.float64)
        share = ((numbers - self.begin) / max(1, self.last - self.begin)).clamp(0, 1).view(-1, 1, 1, 1)
        gain, offset = (
            torch.lerp(torch.tensor(start, dtype=torch.float64), torch.tensor(end, dtype=torch.float64), share)
            for start, end in ((self.start.gain, self.end.gain), (self.start.offset, self.end.offset))
        )
        return changed(frames, gain, offset)

    @property
    def report(self) -> dict[str, list[float]]:
        """`end_gain` and `end_offset` only where the change runs."""
        both = {"": self.start} | ({"end_": self.end} if self.end else {})
        return {
            f"{when}{name}": [round(value, 4) for value in getattr(change, name)]
            for when, change in both.items()
            for name in ("gain", "offset")
        }


def colour_run(frames: torch.Tensor, tail: torch.Tensor | None, reference: Light | None, anchors: int = 0) -> ColourRun:
    """What `frames` [N, H, W, 3] need after a clip that ends with `tail` [overlap, H, W, 3]; None for the first clip.

    Without `reference` that is what matches the shared frames, without the first `anchors` of them, the same for the
    whole clip.
    """
    overlap = 0 if tail is None else len(tail)
    start = match_colour(frames[anchors:overlap], tail[anchors:]) if tail is not None and overlap else ColourChange()
    if reference is None or start.note:
        return ColourRun(start, note=start.note)
    if tail is not None and not overlap:
        start = brought_to(reference, frames[0])
    if len(frames) < 2:
        return ColourRun(start, note=start.note)
    end = brought_to(reference, frames[-1])
    if end.note:
        return ColourRun(start, note=end.note)
    return ColourRun(start, end, max(0, overlap - 1), len(frames) - 1, start.note)


def brought_to(reference: Light, frame: torch.Tensor) -> ColourChange:
    """What gives `frame` [H, W, 3] the mean and standard deviation of `reference`.

    None, and a note, where that takes a gain beyond MAX_GAIN or moves the mean by more than MAX_OFFSET, or where one of
    them is flat (black, say) and the other is not: then the frame shows something else, since a drift is less.
    """
    mean, deviation = Light.of(frame)
    is_flat, should_be_flat = deviation < FLAT, reference.deviation < FLAT
    gain = torch.where(is_flat, 1.0, reference.deviation / deviation.clamp_min(1e-12))
    moved = (reference.mean - mean).abs().max()
    is_drift = gain.max() <= MAX_GAIN and gain.min() >= 1 / MAX_GAIN and moved <= MAX_OFFSET  # not so for NaN
    if not is_drift or (is_flat != should_be_flat).any():
        return ColourChange(note=OTHER_COLOURS)
    return ColourChange(tuple(gain.tolist()), tuple((reference.mean - gain * mean).tolist()))


def check_colour_reference(colour_reference: str) -> None:
    """Raises InvalidInput."""
    if colour_reference not in COLOUR_REFERENCES:
        raise InvalidInput(f"colour_reference must be one of {', '.join(COLOUR_REFERENCES)}; got {colour_reference!r}.")
