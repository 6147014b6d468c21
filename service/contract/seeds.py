"""The seeds of a job: one, or several for as many videos of the same request."""

import secrets
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from .scalars import invalid, whole_number

MAX_SEED = 2**64 - 1
MAX_DRAWN_SEED = 2**53 - 1
MAX_VIDEOS = 64


def seed_list(value: object) -> tuple[int, ...]:
    """Raises PydanticCustomError, whose message names the item that is at fault."""
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("INVALID_TYPE", "must be a list of whole numbers")
    if not 1 <= len(value) <= MAX_VIDEOS:
        raise invalid(f"must have from 1 to {MAX_VIDEOS} items, got {len(value)}")
    seeds: list[int] = []
    for number, item in enumerate(value, 1):
        try:
            seed = whole_number(item)
        except PydanticCustomError:
            raise invalid(f"must be whole numbers, and item {number} is none") from None
        assert isinstance(seed, int)
        if not -1 <= seed <= MAX_SEED:
            raise invalid(f"must be from -1 to {MAX_SEED}, and item {number} is not")
        if seed >= 0 and seed in seeds:
            raise invalid(f"must differ, and item {number} is there twice: it would be the same video again")
        seeds.append(seed)
    return tuple(seeds)


Seeds = Annotated[tuple[int, ...], BeforeValidator(seed_list)]


def drawn(seed: int) -> int:
    """The seed to use; one that is drawn, for -1, stays exact in JavaScript."""
    return seed if seed >= 0 else secrets.randbelow(MAX_DRAWN_SEED + 1)


def seeds_to_use(seed: int, seeds: Sequence[int] | None, num_videos: int | None) -> list[int]:
    """One for each video: `seeds`; else `seed` and those that follow it, or drawn ones where it is -1."""
    if seeds is not None:
        return [drawn(each) for each in seeds]
    return [drawn(seed if seed < 0 else seed + number) for number in range(num_videos or 1)]
