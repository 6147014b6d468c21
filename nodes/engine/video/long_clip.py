"""The segments of a long video as they come, decoded and joined."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

import torch

from ...rules.errors import InvalidInput
from .colour_drift import CLIP_BEFORE
from .joined_clip import JoinedClip


class SegmentReport(TypedDict):
    """One segment: its frames with the overlap, what its sampler said, and what was done to its colours."""

    length: int
    seed: int | None
    seconds: dict[str, float]
    gain: list[float]
    offset: list[float]
    end_gain: NotRequired[list[float]]
    end_offset: NotRequired[list[float]]


class Decodes(Protocol):
    """A comfy.sd.VAE, or what decodes as one."""

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """[batch, frames, height, width, 3] of [batch, channels, T, h, w]."""


class LongClip(NamedTuple):
    """The segments so far; `first` is the report of the first one's sampler."""

    joined: JoinedClip
    first: dict[str, Any]
    reports: tuple[SegmentReport, ...]

    @property
    def report(self) -> dict[str, Any]:
        """The first segment's, with a list of all."""
        return {**self.first, "segments": list(self.reports)}


def add_segment(
    latent: dict[str, Any],
    vae: Decodes,
    report: str | None,
    previous: LongClip | None,
    overlap: int,
    join: str,
    matches_colour: bool,
    colour_reference: str = CLIP_BEFORE,
) -> LongClip:
    """`previous` with one more segment. Raises InvalidInput for a latent of several videos, or of another size."""
    frames = decoded(latent, vae)
    told = _read(report)
    if previous is None:
        joined = JoinedClip.of(frames, overlap, matches_colour, colour_reference)
    else:
        joined = previous.joined.followed_by(frames, join, matches_colour, colour_reference)
    of_this: SegmentReport = {
        "length": len(frames),
        "seed": told.get("seed"),
        "seconds": told.get("seconds") or {},
        **joined.colours.report,  # type: ignore[typeddict-item]
    }
    if previous is None:
        return LongClip(joined, told, (of_this,))
    return LongClip(joined, previous.first, (*previous.reports, of_this))


def decoded(latent: dict[str, Any], vae: Decodes) -> torch.Tensor:
    """[N, height, width, 3] of one video."""
    samples = latent["samples"]
    if samples.ndim != 5 or samples.shape[0] != 1:
        raise InvalidInput(
            f"latent must be one video, [1, channels, frames, height, width]; got {list(samples.shape)}."
        )
    return vae.decode(samples)[0]


def _read(report: str | None) -> dict[str, Any]:
    try:
        told = json.loads(report or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
