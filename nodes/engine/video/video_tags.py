"""What a video file carries beside its frames, as the editor reads it back: workflow, prompt and report."""

import json
import re
from typing import Any


def file_tags(sent_along: dict[str, Any], prompt: dict[str, Any] | None, facts: dict[str, Any]) -> dict[str, str]:
    """Tags of the file, named as core's Save Video names them; the sampling report is `wan_relay`."""
    values = dict(sent_along)
    if prompt is not None:
        values["prompt"] = {key: _as_sent(node) for key, node in prompt.items()}
    if facts:
        values["wan_relay"] = facts
    return {key: _json_for_tags(value) for key, value in values.items()}


def _as_sent(node: dict[str, Any]) -> dict[str, Any]:
    """A node of the prompt without the fingerprints that ComfyUI adds to it: they can hold paths of this machine."""
    return {key: value for key, value in node.items() if key != "is_changed"}


def _json_for_tags(value: Any) -> str:
    """JSON with the braces inside strings escaped: the frontend's webm reader counts those too."""
    return re.sub(r'"(?:\\.|[^"\\])*"', lambda string: _escape_braces(string[0]), json.dumps(value))


def _escape_braces(text: str) -> str:
    return text.replace("{", "\\u007b").replace("}", "\\u007d")
