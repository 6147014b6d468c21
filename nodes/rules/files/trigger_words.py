"""The words that a LoRA was trained to answer to, as its trainer wrote them into the file's metadata."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MAX_WORDS = 20
MAX_CHARACTERS = 100
# What trainers and sites call them: a phrase, words with commas between them, or a JSON list.
_NAMED = (
    "modelspec.trigger_phrase", "trigger_phrase", "trigger_word", "trigger_words", "ss_trigger_words", "trained_words",
)  # fmt: skip
_ON_NEARLY_EVERY = 0.9


def trigger_words(metadata: Mapping[str, Any]) -> list[str]:
    """The trigger words of a LoRA file, at most 20 of at most 100 characters, each once; none where it names none.

    Fields that name them come first (modelspec.trigger_phrase). Else kohya's class tokens (ss_datasets), and of the
    captions' tags (ss_tag_frequency) those on at least nine tenths of the training pictures. A folder with a single tag
    is ai-toolkit's way of writing the word down.
    """
    named = [word for key in _NAMED for word in _texts(_parsed(metadata.get(key)))]
    return _clean(named or [*_class_tokens(metadata), *_common_tags(metadata)])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from value.split(",")
    elif isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


def _class_tokens(metadata: Mapping[str, Any]) -> Iterator[str]:
    for dataset in _items(_parsed(metadata.get("ss_datasets"))):
        for subset in _items(dataset.get("subsets")):
            yield from _texts(subset.get("class_tokens"))


def _common_tags(metadata: Mapping[str, Any]) -> Iterator[str]:
    folders = _mapping(_parsed(metadata.get("ss_dataset_dirs")))
    for folder, tags in _mapping(_parsed(metadata.get("ss_tag_frequency"))).items():
        num_images = _mapping(folders.get(folder)).get("img_count")
        counts = {tag: count for tag, count in _mapping(tags).items() if type(count) is int}
        if len(counts) == 1:
            yield from counts
        elif type(num_images) is int and num_images > 1:
            yield from (tag for tag, count in counts.items() if count >= _ON_NEARLY_EVERY * num_images)


def _parsed(value: Any) -> Any:
    """A metadata value as it was before it became text; text that is no JSON stays text."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _clean(words: Iterable[str]) -> list[str]:
    lines = (" ".join("".join(letter if letter.isprintable() else " " for letter in word).split()) for word in words)
    found = dict.fromkeys(line for line in lines if 0 < len(line) <= MAX_CHARACTERS)
    return list(found)[:MAX_WORDS]
