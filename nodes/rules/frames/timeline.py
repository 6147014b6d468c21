"""What is known of a clip before it is made, frame by frame, and what of that cannot be."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, TypedDict

from ..errors import InvalidInput
from .frame_count import FRAMES_PER_LATENT, snap_length, whole_frames

PADDINGS = ("grey", "zero", "reference")
DEFAULT_OVERLAP = 1  # what Wan2.2 was trained with: one known first frame
ANCHORED_OVERLAP = 1 + FRAMES_PER_LATENT  # at least: behind an anchor the clip before goes on in whole latents
MANY = 65536  # frames: more than any overlap takes
UNKNOWN, KNOWN, OVERLAP, ANCHOR, KEYFRAME = "unknown", "known", "overlap", "anchor", "keyframe"

LOOSE = "A14B learned first and last frames; a keyframe between them holds loosely."
LOOP_SHOWN_TWICE = (
    "loop: the last frame is the first one again; switch on drop_last_frame in Save Video, or it is shown twice."
)
FIRST_FRAMES_ONLY = "with wan2.2_vae: TI2V-5B can only keep the first frames; use the A14B experts with wan_2.1_vae."


@dataclass(frozen=True)
class Given:
    """How many frames each input of Prepare Latent brings, 0 where nothing is linked.

    `previous_latent` counts latent frames, `keyframes` has the frame numbers that were asked for.
    """

    start_image: int = 0
    end_image: int = 0
    previous: int = 0
    previous_latent: int = 0
    anchor: int = 0
    keyframes: tuple[int, ...] = ()
    overlap: int = DEFAULT_OVERLAP
    padding: str = "grey"
    loop: bool = False

    @property
    def has_previous(self) -> bool:
        return bool(self.previous or self.previous_latent)

    @property
    def is_anchored(self) -> bool:
        """Whether the anchor is the first latent frame, as in SVI 2.0 Pro's layout, and not padding alone."""
        return bool(self.anchor) and (self.padding != "reference" or not (self.start_image or self.has_previous))


def linked_frames(linked: Container[str]) -> dict[str, int]:
    """Fields of `Given`, by the inputs that are linked: one image each, of the clip before all that overlap takes."""
    counts = {name: 1 for name in ("start_image", "end_image", "anchor") if name in linked}
    return counts | {name: MANY for name in ("previous", "previous_latent") if name in linked}


class Span(TypedDict):
    """Frames `first` to `last`, both included."""

    kind: str
    first: int
    last: int


@dataclass(frozen=True)
class FramePlan:
    """The whole clip as spans; `overlap` frames of the clip before are taken (0: none), each keyframe's frame.

    `changes` has what is another than asked for, for the panel; `warnings` the same in sentences.
    """

    spans: list[Span]
    overlap: int
    keyframes: tuple[int, ...]
    changes: list[dict[str, Any]]
    warnings: list[str]


def plan_frames(given: Given, length: int, is_5b: bool = False) -> FramePlan:
    """Where everything that is given lies in a clip of `length` = 4n+1 frames.

    Raises InvalidInput for inputs that exclude each other, and for frames that are not there or taken twice.
    """
    _check_together(given, is_5b)
    overlap = _overlap(given, length) if given.has_previous else 0
    kinds = [UNKNOWN] * length
    if given.is_anchored:
        kinds[:overlap] = [OVERLAP] * overlap
        kinds[0] = ANCHOR
    else:
        num_start = min(overlap or given.start_image, length)
        num_start = whole_frames(num_start) if is_5b and num_start else num_start
        kinds[:num_start] = [OVERLAP if overlap else KNOWN] * num_start
    num_end = min(1 if given.loop else given.end_image, length)
    if overlap + num_end > length:
        raise InvalidInput(
            f"length {length} must hold the clip before and end_image, but they have {overlap} and {num_end} frames."
        )
    kinds[length - num_end :] = [KNOWN] * num_end

    changes: list[dict[str, Any]] = []
    warnings: list[str] = []
    if overlap and overlap != given.overlap:
        changes.append({"change": "overlap", "asked": given.overlap, "used": overlap})
        warnings.append(f"overlap {given.overlap} is brought to {overlap}: whole latent frames.")
    frames = tuple(_keyframe(asked, length) for asked in given.keyframes)
    for asked, frame in zip(given.keyframes, frames, strict=True):
        if kinds[frame] != UNKNOWN:
            raise InvalidInput(f"keyframe {asked} comes to frame {frame}, which is known already ({kinds[frame]}).")
        kinds[frame] = KEYFRAME
        if frame not in (asked, length + asked):
            changes.append({"change": "keyframe", "asked": asked, "used": frame})
            warnings.append(f"keyframe {asked} is put at frame {frame}: the latent grid holds every fourth.")
    if any(0 < frame < length - 1 for frame in frames):
        changes.append({"change": "middle"})
        warnings.append(LOOSE)
    return FramePlan(_spans(kinds), overlap, frames, changes, warnings)


def _check_together(given: Given, is_5b: bool) -> None:
    if given.padding not in PADDINGS:
        raise InvalidInput(f"padding must be 'grey', 'zero' or 'reference', got '{given.padding}'.")
    if is_5b:
        for name in ("end_image", "anchor", "keyframes", "previous_latent"):
            if getattr(given, name):
                raise InvalidInput(f"{name} must stay empty {FIRST_FRAMES_ONLY}")
        if given.loop:
            raise InvalidInput(f"loop must be off {FIRST_FRAMES_ONLY}")
        if given.padding != "grey":
            raise InvalidInput(f"padding must be 'grey' {FIRST_FRAMES_ONLY}")
    if given.previous and given.previous_latent:
        raise InvalidInput("previous and previous_latent are both connected: one of them is the clip before.")
    if given.start_image and given.has_previous:
        raise InvalidInput("start_image must stay empty with previous, whose last frames are the first ones here.")
    if given.start_image and given.is_anchored:
        raise InvalidInput("start_image must stay empty with anchor, which is the first frame unless it is padding.")
    if given.previous_latent and not given.is_anchored:
        raise InvalidInput(
            "previous_latent needs an anchor, and padding 'grey' or 'zero': a latent can only go on behind a first "
            "frame; connect the frames of the clip before to previous instead."
        )
    if given.loop and not (given.previous and given.end_image):
        check_loop(bool(given.start_image), bool(given.end_image))
    if given.padding == "reference" and not (given.anchor or given.start_image):
        raise InvalidInput("padding is 'reference', but neither anchor nor start_image is connected.")


def check_loop(has_start_image: bool, has_end_image: bool) -> None:
    """Raises InvalidInput for a loop that has no first frame, or another last one.

    The last clip of several that make a loop has no first frame of its own: there the end image is that of the first.
    """
    if has_end_image or not has_start_image:
        raise InvalidInput("loop needs a start_image and no end_image: the first frame is also the last.")


def _overlap(given: Given, length: int) -> int:
    """The frames that are taken from the clip before: 4n+1, the nearest to those asked for.

    Behind an anchor there are ANCHORED_OVERLAP or more.
    """
    if given.overlap < 1:
        raise InvalidInput(f"overlap must be at least 1 frame, got {given.overlap}.")
    overlap = snap_length(given.overlap)
    if given.is_anchored:
        overlap = max(overlap, ANCHORED_OVERLAP)
    if overlap >= length:
        raise InvalidInput(f"overlap takes {overlap} frames and leaves none of length {length} to make.")
    if given.previous and given.previous < overlap:
        raise InvalidInput(f"previous must have the {overlap} frames that overlap takes, got {given.previous}.")
    latents = (overlap - 1) // FRAMES_PER_LATENT
    if given.previous_latent and given.previous_latent < latents:
        raise InvalidInput(
            f"previous_latent must have the {latents} latent frames that overlap {overlap} takes, "
            f"got {given.previous_latent}."
        )
    return overlap


def _keyframe(asked: int, length: int) -> int:
    """The nearest frame that ends a latent frame, as the end image does: 0, 4, 8 ...; halfway goes up."""
    if not -length <= asked < length:
        raise InvalidInput(f"keyframe {asked} must lie in the video, from 0 to {length - 1}, or from -{length} to -1.")
    return (asked % length + FRAMES_PER_LATENT // 2) // FRAMES_PER_LATENT * FRAMES_PER_LATENT


def _spans(kinds: list[str]) -> list[Span]:
    """Runs of the same kind; each keyframe is one of its own."""
    spans: list[Span] = []
    for frame, kind in enumerate(kinds):
        if spans and spans[-1]["kind"] == kind != KEYFRAME:
            spans[-1]["last"] = frame
        else:
            spans.append({"kind": kind, "first": frame, "last": frame})
    return spans
