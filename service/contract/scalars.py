"""The values of a request, as clients really write them: numbers as text, names with blanks around them.

Each validator raises a PydanticCustomError whose type is a public error code and whose message ends a sentence that
begins with the field's name.
"""

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

MAX_PROMPT = 10_000
MAX_NAME = 64
MAX_PATH = 4096
MAX_NUMBER_TEXT = 40
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def invalid(sentence: str) -> PydanticCustomError:
    """INVALID_VALUE with a sentence of one's own."""
    return PydanticCustomError("INVALID_VALUE", sentence)  # type: ignore[arg-type]


def known_object(item: object, model: type[BaseModel], where: str) -> dict[str, Any]:
    """`item` of a list: an object without other keys than the fields of `model`. Raises PydanticCustomError."""
    if not isinstance(item, dict):
        raise invalid(f"{where} must be an object")
    if not item.keys() <= model.model_fields.keys():
        raise invalid(f"{where} has a field that is not known; the known ones are {', '.join(model.model_fields)}")
    return item


def whole_number(value: object) -> object:
    if isinstance(value, str) and len(value) <= MAX_NUMBER_TEXT:
        text = value.strip()
        if text.removeprefix("-").isdecimal() and text.isascii():
            return int(text)
    elif isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("INVALID_VALUE", "must be a finite number")
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("INVALID_TYPE", "must be a whole number")


def real_number(value: object) -> object:
    if isinstance(value, str) and len(value) <= MAX_NUMBER_TEXT:
        try:
            value = float(value)
        except ValueError:
            raise PydanticCustomError("INVALID_TYPE", "must be a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("INVALID_TYPE", "must be a number")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise PydanticCustomError("INVALID_VALUE", "must be a finite number")
    return value


def text(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("INVALID_TYPE", "must be a string")
    if _UNPRINTABLE.search(value):
        raise PydanticCustomError("INVALID_VALUE", "must not contain control characters or broken Unicode")
    return value


def prompt_text(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_PROMPT:
        raise PydanticCustomError("PROMPT_TOO_LONG", f"must be at most {MAX_PROMPT} characters, got {len(value)}")
    return text(value)


def trimmed(value: object) -> object:
    value = text(value)
    return value.strip() if isinstance(value, str) else value


def lower_case(value: object) -> object:
    """A text that is too long to be a choice is left as it is, for the declaration to refuse."""
    if isinstance(value, str) and len(value) > MAX_NAME:
        return value
    value = trimmed(value)
    return value.lower() if isinstance(value, str) else value


def yes_or_no(value: object) -> object:
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("INVALID_TYPE", "must be true or false")


Whole = Annotated[int, BeforeValidator(whole_number)]
Real = Annotated[float, BeforeValidator(real_number)]
Text = Annotated[str, BeforeValidator(text)]
Name = Annotated[str, Field(max_length=MAX_NAME), BeforeValidator(trimmed)]
FilePath = Annotated[str, Field(max_length=MAX_PATH), BeforeValidator(trimmed)]
Prompt = Annotated[str, BeforeValidator(prompt_text)]
Flag = Annotated[bool, BeforeValidator(yes_or_no)]
