"""How a long video is cut into segments: their lengths, prompts and seeds.

Wan2.2 was trained on 81 frames and swings back after them. A segment begins with the last `overlap` frames of the one
before, so that `n` segments show the sum of their lengths less (n - 1) * overlap frames.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import InvalidInput
from ..frames.frame_count import FRAMES_PER_LATENT, latent_frames, snap_length
from .lora_tags import LoraTag, take_tags

LONGEST_SEGMENT = 257
MAX_SEGMENTS = 100
MAX_SEED = 2**64 - 1


class Segment(NamedTuple):
    """One pass of the model: `length` = 4n+1 frames with the overlap; prompt None keeps the workflow's own.

    `loras` are the strengths that differ from the workflow's own.
    """

    length: int
    seed: int
    prompt: str | None
    loras: tuple[LoraTag, ...] = ()


class LongVideoPlan(NamedTuple):
    segments: tuple[Segment, ...]
    overlap: int
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        return sum(segment.length for segment in self.segments) - self.overlap * (len(self.segments) - 1)

    @property
    def attention_ratio(self) -> float:
        """Attention of all passes against that of one pass over all frames: it grows with the square of the tokens.

        Of two passes of 81 against one of 161: 2 x 21^2 / 41^2 = 0.52.
        """
        passes = sum(latent_frames(segment.length) ** 2 for segment in self.segments)
        return passes / latent_frames(self.num_frames) ** 2


def plan_long_video(
    length: int,
    segment_length: int,
    overlap: int,
    seed: int,
    prompts: Sequence[str] = (),
    seeds: Sequence[int] = (),
    lengths: Sequence[int] = (),
) -> LongVideoPlan:
    """The segments of a video of `length` frames in passes of at most `segment_length`.

    As few segments as that takes, or as many as there are prompts or seeds, all as long as each other to 4 frames. One
    segment shares nothing: its `overlap` is 1, the last frame, from which another clip could go on.
    With `lengths` they are what is said there, and `length` does not count. The last prompt goes on where there are
    fewer than segments; a segment without a seed of its own takes the one before plus 1. Tags of LoRAs are taken out
    of the prompts (see lora_tags); a prompt of tags alone keeps the workflow's own words.
    Raises InvalidInput.
    """
    warnings: list[str] = []
    shared = snap_length(overlap)
    if shared != overlap:
        warnings.append(f"overlap {overlap} is not of the form 4n+1; {shared} frames are shared.")
    if lengths:
        _check_count("prompts", len(prompts), len(lengths))
        _check_count("seeds", len(seeds), len(lengths))
        made = [snap_length(frames) for frames in lengths]
    else:
        made = _even_lengths(length, segment_length, shared, max(len(prompts), len(seeds)))
    warnings += [
        f"length {frames} of segment {number} is not of the form 4n+1; {snapped} frames are made."
        for number, (frames, snapped) in enumerate(zip(lengths, made, strict=False), 1)
        if frames != snapped
    ]
    _check_lengths(made, shared)
    segments = tuple(
        Segment(frames, own_seed, prompt or None, tags)
        for frames, own_seed, (prompt, tags) in zip(
            made, _seeds(seed, seeds, len(made)), _prompts(prompts, len(made)), strict=True
        )
    )
    plan = LongVideoPlan(segments, shared if len(segments) > 1 else 1, ())
    if not lengths and plan.num_frames != length:
        warnings.append(f"length {length} is not of the form 4n+1; {plan.num_frames} frames are made.")
    return plan._replace(warnings=tuple(warnings))


def _even_lengths(length: int, segment_length: int, overlap: int, at_least: int) -> list[int]:
    """Each of the form 4n+1, the longer ones first; together `length`, brought to 4n+1."""
    if segment_length <= overlap:
        raise InvalidInput(f"segment_length must be more than overlap, which is {overlap}; got {segment_length}.")
    whole = snap_length(length)
    steps = max(1, (whole - overlap) // FRAMES_PER_LATENT)  # of 4 frames that are new
    most = max(1, (segment_length - overlap) // FRAMES_PER_LATENT)
    needed = -(-steps // most)
    if needed > MAX_SEGMENTS:
        raise InvalidInput(
            f"length {length} in segments of {segment_length} frames needs {needed} segments; {MAX_SEGMENTS} are "
            "possible."
        )
    if at_least > MAX_SEGMENTS:
        raise InvalidInput(
            f"Each prompt and each seed has a segment of its own: there are {at_least}; {MAX_SEGMENTS} are possible."
        )
    count = max(needed, at_least)
    if count == 1:
        return [whole]
    each, longer = divmod(steps, count)
    return [overlap + FRAMES_PER_LATENT * (each + (index < longer)) for index in range(count)]


def _check_lengths(lengths: Sequence[int], overlap: int) -> None:
    if len(lengths) > MAX_SEGMENTS:
        raise InvalidInput(f"A long video must have at most {MAX_SEGMENTS} segments; got {len(lengths)}.")
    shortest = 2 * overlap + (FRAMES_PER_LATENT - 1 if overlap > 1 else 1)
    for number, frames in enumerate(lengths, 1):
        if len(lengths) > 1 and frames < shortest:
            raise InvalidInput(
                f"Segment {number} has {frames} frames; with an overlap of {overlap} it must have at least {shortest}. "
                "Ask for fewer segments, more frames or less overlap."
            )


def _check_count(name: str, given: int, segments: int) -> None:
    if given > segments:
        raise InvalidInput(f"{name} must be at most as many as lengths, which are {segments}; got {given}.")


def _prompts(prompts: Sequence[str], count: int) -> list[tuple[str, tuple[LoraTag, ...]]]:
    read = [take_tags(prompt) for prompt in prompts] or [("", ())]
    return [*read, *read[-1:] * (count - len(read))]


def _seeds(seed: int, seeds: Sequence[int], count: int) -> list[int]:
    made = list(seeds) or [seed]
    while len(made) < count:
        made.append((made[-1] + 1) % (MAX_SEED + 1))
    return made


def check_prepared(batch_size: object, has_keyframes: bool) -> None:
    """Raises InvalidInput for what Prepare Latent cannot do for a long video; a linked batch_size is not known."""
    if isinstance(batch_size, int) and batch_size != 1:
        raise InvalidInput("batch_size of Prepare Latent must be 1 for a long video.")
    if has_keyframes:
        raise InvalidInput("keyframes of Prepare Latent must stay empty for a long video.")


def prompt_lines(text: str) -> list[str]:
    """One prompt a line; empty lines do not count."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def whole_numbers(name: str, text: str, most: int) -> list[int]:
    """Numbers that stand with commas, spaces or line breaks between them. Raises InvalidInput."""
    found = [word for word in re.split(r"[\s,;]+", text) if word]
    for word in found:
        if not re.fullmatch(r"\d{1,20}", word) or int(word) > most:
            raise InvalidInput(f"{name} must be whole numbers from 0 to {most} with commas between; got {word[:40]!r}.")
    return [int(word) for word in found]
