"""Which of the worker's environment variables ComfyUI gets."""

import re
from collections.abc import Mapping

_PLATFORM = re.compile(r"(BUCKET|RUNPOD)_", re.IGNORECASE)
_SECRET = re.compile(r"(^|_)((API)?KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL)S?(_|$)", re.IGNORECASE)
_HUGGING_FACE = re.compile(r"(HF|HUGGING_?FACE)_", re.IGNORECASE)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """All but the bucket's, the platform's, and whatever else is named like a key.

    A workflow's nodes run code of many authors and need none of those. Hugging Face's own variables stay, with their
    token: nodes that fetch a model read them.
    """
    return {name: value for name, value in environment.items() if not _is_withheld(name)}


def _is_withheld(name: str) -> bool:
    return bool(_PLATFORM.match(name) or (_SECRET.search(name) and not _HUGGING_FACE.match(name)))
