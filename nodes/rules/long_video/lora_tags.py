"""LoRA strengths of one segment, written into its prompt as prompts have them everywhere: `<lora:name:0.8>`.

`<lora:name:0.8:0.5>` is 0.8 for the high-noise expert and 0.5 for the low-noise one, `<lora:name>` is 1 for both. The
name is that of a file in a row of Apply LoRA Pair, with or without its folder and ending, or a part of it that no other
row has.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..experts import HIGH_NOISE, LOW_NOISE
from ..files.expert_files import NO_FILE
from ..files.lora_rows import MAX_STRENGTH, PAIRS, LoraRow, input_name, read_rows

Graph = Mapping[str, Mapping[str, Any]]
APPLY_LORA_PAIR = "WanRelay_ApplyLoraPair"
_TAG = re.compile(r"<lora:([^<>]*)>", re.IGNORECASE)
_UNCLOSED = re.compile(r"<lora:([^<>]*)(?:<|\Z)", re.IGNORECASE)
_FORM = (
    "prompts must have LoRAs as <lora:name:strength> or <lora:name:high_noise:low_noise>, strengths from "
    f"{-MAX_STRENGTH:g} to {MAX_STRENGTH:g}"
)


class LoraTag(NamedTuple):
    name: str
    high_noise_strength: float
    low_noise_strength: float


def take_tags(prompt: str) -> tuple[str, tuple[LoraTag, ...]]:
    """The prompt without its tags, and the tags. Raises InvalidInput for one that cannot be read."""
    tags = tuple(_read(words) for words in _TAG.findall(prompt))
    names = [tag.name.casefold() for tag in tags]
    if twice := next((tag.name for tag in tags if names.count(tag.name.casefold()) > 1), None):
        raise InvalidInput(f"prompts must name each LoRA once a line; got <lora:{twice}> twice.")
    if unclosed := _UNCLOSED.search(prompt):
        raise InvalidInput(f"{_FORM}; got <lora:{unclosed[1][:60]} without its end.")
    return " ".join(_TAG.sub(" ", prompt).split()) if tags else prompt, tags


def tags_as_words(name: str, prompt: str) -> list[str]:
    """The warning about tags that nobody takes out: Encode Prompts reads them as words."""
    found = _TAG.search(prompt)
    if not found:
        return []
    return [
        f"{name}: {found[0][:60]} is read as words; such tags count in the prompts of Long Video, and Apply LoRA Pair "
        "sets the strength for the whole video."
    ]


def _read(words: str) -> LoraTag:
    name, *numbers = (word.strip() for word in words.split(":"))
    try:
        strengths = [float(number) for number in numbers] or [1.0]
    except ValueError:
        strengths = []
    in_range = all(abs(strength) <= MAX_STRENGTH for strength in strengths)  # False for nan
    if not name or not 1 <= len(strengths) <= 2 or not in_range:
        raise InvalidInput(f"{_FORM}; got <lora:{words[:60]}>.")
    return LoraTag(name, strengths[0], strengths[-1])


def strength_inputs(graph: Graph, tags: Sequence[LoraTag]) -> dict[str, dict[str, float]]:
    """{node: {input: strength}}: what the tags set in the Apply LoRA Pair nodes of `graph`, in API format.

    Raises InvalidInput for a name that fits no row that is on, or several, and for two names of one row.
    """
    rows = list(_rows(graph)) if tags else []
    wanted: dict[str, dict[str, float]] = {}
    for tag in tags:
        node, row = _named(tag.name, rows)
        values = wanted.setdefault(node, {})
        for slot, strength in ((HIGH_NOISE, tag.high_noise_strength), (LOW_NOISE, tag.low_noise_strength)):
            key = input_name(f"{slot}_strength", row.number)
            key = key if row.number == 1 else f"{PAIRS}.{key}"
            if key in values:
                raise InvalidInput(
                    f"prompts: <lora:{tag.name}> names a row of Apply LoRA Pair that another tag of its line names "
                    "too; <lora:name:high_noise:low_noise> sets the strengths of both files."
                )
            values[key] = strength
    return wanted


def _rows(graph: Graph) -> Iterator[tuple[str, LoraRow]]:
    for name, node in graph.items():
        if node["class_type"] == APPLY_LORA_PAIR:
            known = {key: None if isinstance(value, list) else value for key, value in node["inputs"].items()}
            yield from ((name, row) for row in read_rows(known) if row.is_on and _files(row))


def _named(name: str, rows: Sequence[tuple[str, LoraRow]]) -> tuple[str, LoraRow]:
    part = _comparable(name)
    tried = ([row for row in rows if any(fits(part, file) for file in _files(row[1]))] for fits in _FITS)
    found = next(filter(None, tried), [])
    if len(found) != 1:
        names = ", ".join(" and ".join(_files(row)) for _, row in rows)
        there = f"there are {names}" if names else "there is none"
        many = "several rows" if found else "no row that is on"
        raise InvalidInput(f"prompts: <lora:{name}> fits {many} of Apply LoRA Pair; {there}.")
    return found[0]


def _files(row: LoraRow) -> list[str]:
    """The row's files, each once; not those that a link brings."""
    return list(dict.fromkeys(file for file in row.files if file not in (None, NO_FILE)))


def _comparable(name: str) -> str:
    """Small letters, one kind of slash, and accents as one letter, which macOS writes as two."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").casefold())


def _without_ending(path: str) -> str:
    return re.sub(r"\.\w+$", "", path)


def _is_path(part: str, file: str) -> bool:
    path = _comparable(file)
    return part in (path, _without_ending(path))


def _is_end_of_path(part: str, file: str) -> bool:
    path = _comparable(file)
    return any(name.endswith(f"/{part}") for name in (path, _without_ending(path)))


def _is_part(part: str, file: str) -> bool:
    path = _without_ending(_comparable(file))
    return part in (path if "/" in part else path.rpartition("/")[2])


_FITS = (_is_path, _is_end_of_path, _is_part)  # the first that any row fits counts
