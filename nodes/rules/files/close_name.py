"""What a name that is not in a list of files probably means, and the sentence that says so."""

from collections.abc import Sequence
from difflib import get_close_matches

from .expert_name import expert_from_name
from .shown_text import shown

MAX_LISTED = 20  # ComfyUI's own limit in the same sentence
MAX_NAME_CHARACTERS = 200
_LEAST_RATIO = 0.8


def not_in_list(input_name: str, name: str, choices: Sequence[str]) -> str:
    """The sentence for a name that `choices` does not have: the list if it is short, and the closest name in it."""
    listed = str(list(choices)) if len(choices) <= MAX_LISTED else f"(list of length {len(choices)})"
    sentence = f"{input_name}: '{shown(name, MAX_NAME_CHARACTERS)}' not in {listed}"
    closest = closest_name(name, choices)
    return sentence if closest is None else f"{sentence}; the closest name there is '{closest}'"


def closest_name(name: str, choices: Sequence[str]) -> str | None:
    """The choice that `name` most probably means, None where nothing is close.

    Slashes of the other kind, another folder, a missing ending and capitals count for little; a file that is named for
    the other expert is never meant.
    """
    if not name or len(name) > MAX_NAME_CHARACTERS:
        return None
    expert = expert_from_name(name)
    possible = [choice for choice in choices if expert_from_name(choice) in (expert, None) or expert is None]
    paths, stems = ({simple(choice): choice for choice in reversed(possible)} for simple in (_path, _stem))
    close = get_close_matches(_stem(name), stems, 1, _LEAST_RATIO)
    return paths.get(_path(name)) or (stems[close[0]] if close else None)


def _path(name: str) -> str:
    return name.replace("\\", "/").lower()


def _stem(name: str) -> str:
    return _path(name).rpartition("/")[2].removesuffix(".safetensors")
