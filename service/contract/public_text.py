"""What may be shown of a text that comes from a request, from ComfyUI or from a library."""

import re

MAX_SENTENCE = 600
MAX_READ = 10_000
_PATH = re.compile(r"(?<![\w:/])(?:/(?:[^/\s'\":,;()\[\]]+/)+|[A-Za-z]:\\(?:[^\\\s'\"]+\\)+)(?=[^\s'\"]*)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}")
_SECRET = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|rpa|hf|ghp|AKIA)[_-]?[A-Za-z0-9]{16,})")


def public_text(text: str) -> str:
    """One line that is safe to show: no folder names, base64, keys or control characters, and not endless.

    Of a path only the last part stays, since a model's file name is what the reader needs.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_READ]).split())
    line = _SECRET.sub("[removed]", line)
    line = _PATH.sub("", line)
    line = _BASE64.sub("[data]", line)
    return line if len(line) <= MAX_SENTENCE else line[: MAX_SENTENCE - 1].rstrip() + "…"
