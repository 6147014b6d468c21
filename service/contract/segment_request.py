"""The segments that a client asks for: each a prompt, frames and a seed of its own."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from .scalars import invalid, known_object, prompt_text, whole_number
from .seeds import MAX_SEED

MAX_SEGMENTS = 20
MIN_LENGTH, MAX_LENGTH = 5, 257
DEFAULT_LENGTH = 81
_LORA_NAME = re.compile(r"(?<=<lora:)[^<>:]*(?=[^<>]*>)", re.IGNORECASE)
_LORA_TAG = re.compile(r"<lora:[^<>]*>", re.IGNORECASE)


class SegmentRequest(BaseModel):
    """`length` counts the frame that it shares with the segment before; seed None: the one before, plus 1."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    length: int = DEFAULT_LENGTH
    seed: int | None = None


def segment_requests(value: object) -> tuple[SegmentRequest, ...]:
    """Raises PydanticCustomError, whose message begins with the item that is at fault."""
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("INVALID_TYPE", "must be a list of objects")
    if not 1 <= len(value) <= MAX_SEGMENTS:
        raise PydanticCustomError("INVALID_VALUE", f"must have 1 to {MAX_SEGMENTS} items, got {len(value)}")
    return tuple(_request(item, f"item {number}") for number, item in enumerate(value, 1))


def without_loras(prompt: str) -> str:
    """The prompt of a segment without its tags `<lora:name:strength>`, as Long Video encodes it."""
    return " ".join(_LORA_TAG.sub(" ", prompt).split()) if _LORA_TAG.search(prompt) else prompt


def with_lora_names(prompt: str, name_of: Callable[[str], str]) -> str:
    """The prompt of a segment with other names in those tags."""
    return _LORA_NAME.sub(lambda found: name_of(found[0].strip()), prompt)


def _request(item: object, where: str) -> SegmentRequest:
    if isinstance(item, SegmentRequest):
        return item
    values: dict[str, Any] = {}
    for name, given in known_object(item, SegmentRequest, where).items():
        if given is not None:
            values[name] = _prompt(given, where) if name == "prompt" else _number(name, given, where)
    if not values.get("prompt"):
        raise invalid(f"{where} needs a prompt")
    if values.get("seed") == -1:
        del values["seed"]
    return SegmentRequest(**values)


def _prompt(value: object, where: str) -> str:
    """On one line: the text encoder reads a line break as a blank."""
    try:
        return " ".join(str(prompt_text(value)).split())
    except PydanticCustomError as error:
        raise invalid(f"{where}: prompt {error.message()}") from None


def _number(name: str, value: object, where: str) -> int:
    low, high = (MIN_LENGTH, MAX_LENGTH) if name == "length" else (-1, MAX_SEED)
    try:
        number = whole_number(value)
    except PydanticCustomError as error:
        raise invalid(f"{where}: {name} {error.message()}") from None
    if not isinstance(number, int) or not low <= number <= high:
        raise invalid(f"{where}: {name} must be from {low} to {high}")
    return number


Segments = Annotated[tuple[SegmentRequest, ...], BeforeValidator(segment_requests)]
