"""The rows of Apply LoRA Pair: a LoRA for each expert, two strengths, on or off.

The first row has the names without a number (`high_noise_lora`), each further one its number at the end
(`high_noise_lora_2`). In API format the further ones stand behind `pairs`, the number of rows: `"pairs": "2"` and
`"pairs.high_noise_lora_2": file`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from ..experts import HIGH_NOISE
from .expert_files import NO_FILE

MAX_PAIRS = 6
MAX_STRENGTH = 20.0
PAIRS = "pairs"
_ROW_INPUTS = ("high_noise_lora", "low_noise_lora", "high_noise_strength", "low_noise_strength", "is_on")
_NUMBERED = re.compile(rf"(?:{PAIRS}\.)?((?:high|low)_noise_(?:lora|strength)|is_on)_(\d{{1,9}})")


@dataclass(frozen=True)
class LoraRow:
    """One row; a file is None where it is not known before the run (a link brings it)."""

    number: int
    high_noise_lora: str | None = NO_FILE
    low_noise_lora: str | None = NO_FILE
    high_noise_strength: float = 1.0
    low_noise_strength: float = 1.0
    is_on: bool = True

    def file(self, slot: str) -> str | None:
        return self.high_noise_lora if slot == HIGH_NOISE else self.low_noise_lora

    def strength(self, slot: str) -> float:
        return self.high_noise_strength if slot == HIGH_NOISE else self.low_noise_strength

    def has_lora(self, slot: str) -> bool:
        return self.is_on and self.file(slot) not in (None, NO_FILE)

    @property
    def files(self) -> tuple[str | None, str | None]:
        return self.high_noise_lora, self.low_noise_lora


def input_name(name: str, row: int) -> str:
    """The input of that row: high_noise_lora, high_noise_lora_2."""
    return name if row == 1 else f"{name}_{row}"


def read_rows(inputs: Mapping[str, Any]) -> list[LoraRow]:
    """The rows out of the node's inputs as ComfyUI hands them over: nested below `pairs`, or flat as they were sent.

    An input without a value is one that a link brings later, or that was not sent. Raises InvalidInput, one sentence,
    for a number of pairs, a file's name, a strength or a row that cannot be.
    """
    flat = _flat(inputs)
    rows = []
    for row in range(1, _num_pairs(flat) + 1):
        names = {name: input_name(name, row) for name in _ROW_INPUTS}
        rows.append(
            LoraRow(
                row,
                _file(flat, names["high_noise_lora"]),
                _file(flat, names["low_noise_lora"]),
                _strength(flat, names["high_noise_strength"]),
                _strength(flat, names["low_noise_strength"]),
                flat.pop(names["is_on"], True) is not False,
            )
        )
    beyond = next((name for name in flat if _NUMBERED.fullmatch(name)), None)
    if beyond:
        raise InvalidInput(f"{beyond}: expected no such row because pairs is {len(rows)}.")
    return rows


def _flat(inputs: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name.removeprefix(f"{PAIRS}."): value for name, value in inputs.items() if name != PAIRS}
    pairs = inputs.get(PAIRS)
    return flat | (pairs if isinstance(pairs, dict) else {PAIRS: 1 if pairs is None else pairs})


def _num_pairs(flat: dict[str, Any]) -> int:
    pairs = flat.pop(PAIRS, 1)
    if str(pairs) not in map(str, range(1, MAX_PAIRS + 1)):
        raise InvalidInput(f"pairs must be a whole number from 1 to {MAX_PAIRS}, not {str(pairs)[:40]!r}.")
    return int(pairs)


def _file(flat: dict[str, Any], name: str) -> str | None:
    file = flat.pop(name, NO_FILE)
    if not isinstance(file, str | None):
        raise InvalidInput(f"{name} must be the name of a file, not {str(file)[:40]}.")
    return file


def _strength(flat: dict[str, Any], name: str) -> float:
    strength = flat.pop(name, 1.0)
    if strength is None:
        return 1.0
    if not isinstance(strength, int | float) or not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
        raise InvalidInput(f"{name} must be from {-MAX_STRENGTH:g} to {MAX_STRENGTH:g}, not {str(strength)[:40]}.")
    return float(strength)
