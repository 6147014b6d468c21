"""The LoRA pairs that a client asks for: names of files on the network volume or URLs, and strengths."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from .scalars import MAX_PATH, invalid, known_object, real_number, text

MAX_LORAS = 5  # the node has six rows, and a workflow of ours uses the first
MAX_STRENGTH = 20
_ENDING = re.compile(r"\.(safetensors|sft)\Z", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class LoraRequest(BaseModel):
    """`high` and `low` are names below the volume's loras folder, or URLs; at least one of them is there."""

    model_config = ConfigDict(frozen=True)

    high: str | None = None
    low: str | None = None
    high_strength: float = 1.0
    low_strength: float = 1.0


def lora_requests(value: object) -> tuple[LoraRequest, ...]:
    """Raises PydanticCustomError, whose message begins with the item that is at fault."""
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("INVALID_TYPE", "must be a list of objects")
    if len(value) > MAX_LORAS:
        raise PydanticCustomError("INVALID_VALUE", f"must have at most {MAX_LORAS} items, got {len(value)}")
    return tuple(_request(item, f"item {number}") for number, item in enumerate(value, 1))


def _request(item: object, where: str) -> LoraRequest:
    if isinstance(item, LoraRequest):
        return item
    values: dict[str, Any] = {
        name: (_strength if name.endswith("strength") else _file)(given, f"{where}: {name}")
        for name, given in known_object(item, LoraRequest, where).items()
        if given is not None
    }
    if not values.keys() & {"high", "low"}:
        raise invalid(f"{where} needs a file in high, in low, or in both")
    return LoraRequest(**values)


def is_url(file: str) -> bool:
    """Whether a LoRA's file is named by a URL, and not as ComfyUI lists it."""
    return bool(_URL.match(file))


def lora_files(loras: Sequence[LoraRequest]) -> Iterator[tuple[str, str]]:
    """(`high in loras item 1`, name or URL) of each file."""
    for number, lora in enumerate(loras, 1):
        for expert, file in (("high", lora.high), ("low", lora.low)):
            if file is not None:
                yield f"{expert} in loras item {number}", file


def lora_urls(loras: Sequence[LoraRequest]) -> Iterator[tuple[str, str]]:
    """Those of `lora_files` that are URLs."""
    return ((where, file) for where, file in lora_files(loras) if is_url(file))


def _file(value: object, where: str) -> str:
    """A name as ComfyUI lists it, or a URL. Any other path is refused before anything looks for it."""
    wanted = (
        f"{where} must be the name of a .safetensors file in the volume's loras folder, such as "
        "style_high.safetensors, or the https URL of one"
    )
    if not isinstance(value, str) or len(value) > MAX_PATH:
        raise invalid(wanted)
    text(value)
    name = value.strip()
    if is_url(name):
        return _checked_url(name, where, wanted)
    parts = re.split(r"[\\/]", name)
    if ":" in name or any(part.strip() in ("", ".", "..", "~") for part in parts) or not _ENDING.search(name):
        raise invalid(f"{wanted}; other paths are not taken")
    return name


def _checked_url(url: str, where: str, wanted: str) -> str:
    """Only its form: which hosts a worker asks, and that they are asked over TLS, is the worker's to say."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or any(c.isspace() for c in url):
        raise invalid(wanted)
    if "@" in parts.netloc:
        raise invalid(f"{where} must not carry a user name or password")
    return url


def _strength(value: object, where: str) -> float:
    try:
        strength = real_number(value)
    except PydanticCustomError:
        strength = None
    if not isinstance(strength, float) or not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
        raise invalid(f"{where} must be a number from {-MAX_STRENGTH} to {MAX_STRENGTH}")
    return strength


Loras = Annotated[tuple[LoraRequest, ...], BeforeValidator(lora_requests)]
