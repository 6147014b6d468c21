"""The LoRA pairs that a client asks for: names of files on the network volume, and strengths."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from .scalars import MAX_PATH, real_number, text

MAX_LORAS = 5  # the node has six rows, and a workflow of ours uses the first
MAX_STRENGTH = 20
_ENDING = re.compile(r"\.(safetensors|sft)\Z", re.IGNORECASE)


class LoraRequest(BaseModel):
    """`high` and `low` are names below the volume's loras folder; at least one of them is there."""

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
    if not isinstance(item, dict):
        raise _refusal(f"{where} must be an object")
    fields = LoraRequest.model_fields
    if len(item) > len(fields) or not item.keys() <= fields.keys():
        raise _refusal(f"{where} has a field that is not known; the known ones are {', '.join(fields)}")
    values: dict[str, Any] = {
        name: (_strength if name.endswith("strength") else _file_name)(given, f"{where}: {name}")
        for name, given in item.items()
        if given is not None
    }
    if not values.keys() & {"high", "low"}:
        raise _refusal(f"{where} needs a file in high, in low, or in both")
    return LoraRequest(**values)


def _file_name(value: object, where: str) -> str:
    """A name as ComfyUI lists it. An address or a path out of the folder is refused before anything looks for it."""
    wanted = (
        f"{where} must be the name of a .safetensors file in the volume's loras folder, such as style_high.safetensors"
    )
    if not isinstance(value, str) or len(value) > MAX_PATH:
        raise _refusal(wanted)
    text(value)
    name = value.strip()
    parts = re.split(r"[\\/]", name)
    if ":" in name or any(part.strip() in ("", ".", "..", "~") for part in parts) or not _ENDING.search(name):
        raise _refusal(f"{wanted}; addresses and other paths are not taken")
    return name


def _strength(value: object, where: str) -> float:
    try:
        strength = real_number(value)
    except PydanticCustomError:
        strength = None
    if not isinstance(strength, float) or not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
        raise _refusal(f"{where} must be a number from {-MAX_STRENGTH} to {MAX_STRENGTH}")
    return strength


def _refusal(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("INVALID_VALUE", sentence)  # type: ignore[arg-type]


Loras = Annotated[tuple[LoraRequest, ...], BeforeValidator(lora_requests)]
