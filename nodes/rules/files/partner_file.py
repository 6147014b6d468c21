"""Which file, an expert or a LoRA, is the other half of a pair, by the names alone."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypedDict

from ..experts import HIGH_NOISE, LOW_NOISE
from .expert_files import NO_FILE
from .expert_name import OTHER_MEANINGS, expert_from_name, is_plain, path_parts, words_of
from .lora_rows import LoraRow, input_name

_EXPERT_WORDS = {"high", "low", "hi", "lo", "h", "l", "highnoise", "lownoise", "hinoise", "lonoise"}
# The numbers in which the two halves of a real pair differ: ranks (128 and 64), rCM's strengths (6_0 and 1_0), and the
# epoch or step that each half was taken from.
_COUNTED = {"rank", "dim", "alpha", "cm", "e", "ep", "epoch", "epochs"}


def partner_of(name: str, names: Sequence[str]) -> str | None:
    """The one file of `names` that is the other half of the pair of `name`; None where none or several could be.

    `names` are those of ComfyUI's list, with folders. The halves have the same name but for the word of the expert
    (`..._HIGH_...`, `high_noise_model`, `HighNoise/...`). Where no name is that close, numbers of the rank, the epoch
    or rCM may differ too. What lies in the same folder, or in the folder for the other expert, comes first.
    """
    expert = expert_from_name(name)
    if expert is None:
        return None
    others = [each for each in names if expert_from_name(each) not in (None, expert)]
    keys: tuple[Callable[[str], object], ...] = (
        _whole,
        _without_folder,
        lambda each: _without_numbers(_whole(each)),
        lambda each: _without_numbers(_without_folder(each)),
    )
    for key in keys:
        found = [each for each in others if key(each) == key(name)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def first_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """The first file of the list that is named as a high-noise one and has its partner there, with that partner."""
    for name in names:
        if expert_from_name(name) == HIGH_NOISE and (partner := partner_of(name, names)):
            return name, partner
    return None


class Offer(TypedDict):
    """The file that belongs into an input beside the one that is chosen."""

    input: str
    file: str


def offered_partners(rows: Iterable[LoraRow], names: Sequence[str]) -> list[Offer]:
    """For every row the partner of each file that is in its right place and has another one, or none, beside it."""
    offers: list[Offer] = []
    for row in rows:
        for slot, file in _missing_partners(row.file(HIGH_NOISE), row.file(LOW_NOISE), names):
            offers.append({"input": input_name(f"{slot}_lora", row.number), "file": file})
    return offers


def offered_expert(high: str, low: str, names: Sequence[str]) -> list[Offer]:
    """The partner of the one of two expert files that is in its right place and has another one beside it."""
    return [{"input": slot, "file": file} for slot, file in _missing_partners(high, low, names)]


def _missing_partners(high: str | None, low: str | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The slot and the file that belongs there, for each file that has another one, or none, beside it."""
    for slot, file, other, beside in ((HIGH_NOISE, high, LOW_NOISE, low), (LOW_NOISE, low, HIGH_NOISE, high)):
        if file and file != NO_FILE and expert_from_name(file) == slot:
            partner = partner_of(file, names)
            if partner and partner != beside:
                yield other, partner


def _whole(name: str) -> tuple[str, ...]:
    return tuple(word for part in path_parts(name) for word in ("/", *_words(_stem(part))))


def _without_folder(name: str) -> tuple[str, ...]:
    """A name that says no more than `high_noise_model` needs its folder to be known by."""
    file = _stem(path_parts(name)[-1])
    return _whole(name) if is_plain(file) else _words(file)


def _stem(part: str) -> str:
    return re.sub(r"\.(safetensors|sft)$", "", part, flags=re.IGNORECASE)


def _words(text: str) -> tuple[str, ...]:
    """The words in lower case, with `*` for those that tell the expert."""
    found: list[str] = []
    for word, following in pairwise([*(word.lower() for word in words_of(text)), ""]):
        if word == "noise" and found and found[-1] == "*":
            continue
        found.append("*" if word in _EXPERT_WORDS and following not in OTHER_MEANINGS else word)
    return tuple(found)


def _without_numbers(words: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    is_counted = False
    for word in words:
        is_counted = word in _COUNTED or (is_counted and word.isdecimal())
        if not (is_counted and word.isdecimal()):
            kept.append(word)
    return tuple(kept)
