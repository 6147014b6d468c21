"""What is known of a long video before it is made, segment by segment."""

from dataclasses import replace
from itertools import groupby

from ..frames.timeline import FramePlan, Given, Span, check_loop, plan_frames
from .segment_plan import LongVideoPlan


class SegmentSpan(Span):
    """Frames of the whole video; `segment` counts from 1. Frames that two segments share are the later one's."""

    segment: int


def plan_segments(plan: LongVideoPlan, given: Given, is_5b: bool = False) -> tuple[FramePlan, list[SegmentSpan]]:
    """The first segment's plan, and the spans of all segments. `given` is what Prepare Latent is given.

    Raises InvalidInput as `plan_frames` does for any of them.
    """
    frames: list[tuple[str, int]] = []
    plans: list[FramePlan] = []
    last = len(plan.segments)
    if given.loop:
        check_loop(bool(given.start_image), bool(given.end_image))
    for number, segment in enumerate(plan.segments, 1):
        own = given if number == 1 else _going_on(given, plan.overlap)
        if last > 1:
            own = replace(own, loop=False, end_image=int(given.loop or given.end_image) if number == last else 0)
        plans.append(plan_frames(own, segment.length, is_5b))
        del frames[len(frames) - (plan.overlap if number > 1 else 0) :]
        for span in plans[-1].spans:
            frames += [(span["kind"], number)] * (span["last"] - span["first"] + 1)
    return plans[0], _spans(frames)


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
