"""Names in the object store for what clients upload ahead of a task: `uploads/{whose}/{id}/{name}`."""

import re
import secrets

from ..store.content_types import CONTENT_TYPES, suffix_for

FOLDER = "uploads"
MAX_NAME = 80


def new_upload_id() -> str:
    """Nobody guesses it: whoever knows it may read the file."""
    return secrets.token_hex(16)


def safe_name(file_name: str, content_type: str) -> str:
    """The client's name of a file as a store takes it, with a suffix that says what it is."""
    stem, dot, ending = file_name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    suffix = f".{ending.lower()}" if dot and f".{ending.lower()}" in CONTENT_TYPES else suffix_for(content_type)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", stem if dot else ending).strip("-")[:MAX_NAME]
    return f"{stem or 'file'}{suffix}"
