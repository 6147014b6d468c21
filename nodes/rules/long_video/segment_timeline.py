"""What is known of a long video before it is made, segment by segment."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from ..errors import InvalidInput
from ..frames.frame_count import FRAMES_PER_LATENT
from ..frames.timeline import ANCHORED_OVERLAP, FramePlan, Given, Span, check_loop, linked_frames, plan_frames
from .segment_graph import is_link
from .segment_plan import LongVideoPlan


class SegmentSpan(Span):
    """Frames of the whole video; `segment` counts from 1. Frames that two segments share are the later one's."""

    segment: int


def given_of(inputs: Mapping[str, Any]) -> Given | None:
    """What Prepare Latent is given, by its inputs in a graph; None where a link says how it is used."""
    settings = {name: inputs[name] for name in ("overlap", "padding", "loop") if name in inputs}
    if any(is_link(value) for value in settings.values()):
        return None
    return Given(**(settings | linked_frames(inputs)))


def plan_segments(plan: LongVideoPlan, given: Given, is_5b: bool = False) -> tuple[FramePlan, list[SegmentSpan]]:
    """The first segment's plan, and the spans of all segments. `given` is what Prepare Latent is given.

    Raises InvalidInput as `plan_frames` does for any of them.
    """
    frames: list[tuple[str, int]] = []
    plans: list[FramePlan] = []
    last = len(plan.segments)
    if given.loop:
        check_loop(bool(given.start_image), bool(given.end_image))
    if last > 1:
        _check_first_and_next(given, plan.overlap)
    for number, segment in enumerate(plan.segments, 1):
        own = given if number == 1 else _going_on(given, plan.overlap)
        if last > 1:
            ends = number == last
            own = replace(own, loop=given.loop and ends, end_image=int(given.loop or given.end_image) if ends else 0)
        plans.append(plan_frames(own, segment.length, is_5b))
        del frames[len(frames) - (plan.overlap if number > 1 else 0) :]
        for span in plans[-1].spans:
            frames += [(span["kind"], number)] * (span["last"] - span["first"] + 1)
    return plans[0], _spans(frames)


def _check_first_and_next(given: Given, overlap: int) -> None:
    """Of several segments: the first must begin with something, and the next one be able to go on."""
    begins = given.start_image or given.has_previous or given.anchor
    if given.end_image and not begins:
        raise InvalidInput(
            "Prepare Latent must have a start image for a long video of several segments: its end image is the last "
            "segment's, and the first one would be made of nothing."
        )
    if _going_on(given, overlap).is_anchored and overlap < ANCHORED_OVERLAP:
        raise InvalidInput(
            f"overlap of Long Video must be at least {ANCHORED_OVERLAP} with an anchor, behind which the clip before "
            f"goes on in latents of {FRAMES_PER_LATENT} frames; got {overlap}."
        )


def _going_on(given: Given, overlap: int) -> Given:
    """What a segment that is not the first is given, as segment_graph links it."""
    anchor = given.anchor or (given.start_image if given.padding == "reference" else 0)
    return Given(previous=overlap, overlap=overlap, anchor=anchor, padding=given.padding)


def _spans(frames: list[tuple[str, int]]) -> list[SegmentSpan]:
    spans: list[SegmentSpan] = []
    first = 0
    for (kind, segment), run in groupby(frames):
        length = len(list(run))
        spans.append({"kind": kind, "first": first, "last": first + length - 1, "segment": segment})
        first += length
    return spans
