"""What is wrong with a client's body, in a sentence that names the field as the client wrote it."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ..contract.errors import JobError
from ..contract.failure import Failure
from ..contract.public_text import public_text

MAX_NAME_SHOWN = 40
MAX_UNKNOWN_SHOWN = 10


def body_fault(error: ValidationError, model: type[BaseModel]) -> JobError:
    """The first fault, `input.prompt` for a field of an object in the body. No value of the client's is shown."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in first["loc"]]
    code, what = _fault(first, model, path)
    field = ".".join(path)
    return JobError(code, f"{field} {what}" if field else what, field or None)


def _fault(error: ErrorDetails, model: type[BaseModel], path: list[str]) -> tuple[str, str]:
    kind = error["type"]
    if kind == "missing":
        return "MISSING_FIELD", "is needed"
    if kind in ("greater_than_equal", "less_than_equal"):
        low, high = _range(model, path)
        return "OUT_OF_RANGE", f"must be from {low:g} to {high}"
    if kind == "literal_error":
        return "INVALID_VALUE", f"must be one of {error['ctx']['expected'].replace(chr(39), '')}"
    if kind in ("model_type", "dict_type"):
        return "INVALID_TYPE", "must be an object"
    if kind in ("MISSING_FIELD", "OUT_OF_RANGE", "INVALID_TYPE", "INVALID_VALUE", "PROMPT_TOO_LONG"):
        return kind, error["msg"]
    return "INVALID_VALUE", "has a value that cannot be used"


def _range(model: type[BaseModel], path: list[str]) -> tuple[Any, Any]:
    """The limits that the declaration of a field gives."""
    field = _fields(model)[path[0]]
    if len(path) > 1:
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
        return _range(inner, path[1:])
    low = next(limit.ge for limit in field.metadata if hasattr(limit, "ge"))
    high = next(limit.le for limit in field.metadata if hasattr(limit, "le"))
    return low, high


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """By the names that clients write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def without_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    """A null is a field that was not sent, also one object further in."""
    shallow = {name: value for name, value in body.items() if value is not None}
    return {name: without_nulls(value) if isinstance(value, dict) else value for name, value in shallow.items()}


def unknown_fields(body: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> list[str]:
    """A warning for each field that is not known; names only, and not endlessly many."""
    known = _fields(model)
    names = [name for name in body if name not in known]
    warnings = [
        f"field {prefix}{shown_name(name)} is not known and was ignored" for name in islice(names, MAX_UNKNOWN_SHOWN)
    ]
    more = len(names) - len(warnings)
    return warnings + ([f"{more} more unknown fields were ignored"] if more else [])


def shown_name(name: str) -> str:
    shown = public_text(name)
    return shown if len(shown) <= MAX_NAME_SHOWN else shown[: MAX_NAME_SHOWN - 1] + "…"


def in_words_of(failure: Failure, names: Mapping[str, str]) -> Failure:
    """The failure with the client's names in place of the project's (`{"image_url": "input.first_frame_url"}`)."""
    sentence = re.sub(r"\b[a-z]+(?:_[a-z0-9]+)+\b", lambda found: names.get(found[0], found[0]), failure.sentence)
    return failure.model_copy(update={"sentence": sentence, "field": names.get(failure.field or "", failure.field)})
