"""All files that a run left in ComfyUI's output folder: videos, pictures, and whatever else a node saves."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from ..contract.errors import JobError
from .saved_video import MIME_TYPES, Video, read_video


@dataclass
class OutputFile(Video):
    """A saved file under the name that its node gave it."""

    filename: str = ""

    @property
    def is_video(self) -> bool:
        return self.suffix in MIME_TYPES

    @property
    def mime_type(self) -> str:
        return MIME_TYPES.get(self.suffix) or guess_type(self.filename)[0] or "application/octet-stream"


def find_files(outputs: dict[str, Any], output_directory: Path) -> list[OutputFile]:
    """Every saved file of a history entry, whichever key its node uses (`images`, `gifs`, `videos`, `audio`, ...).

    Previews, which lie in the temp folder, are none. Raises JobError NO_OUTPUT for one that is not there.
    """
    root = os.path.realpath(output_directory)
    found: dict[str, OutputFile] = {}
    for item in _items(outputs):
        name = os.path.basename(str(item.get("filename") or ""))
        path = os.path.realpath(os.path.join(root, str(item.get("subfolder") or ""), name))
        if not name or path in found or os.path.commonpath((root, path)) != root:
            continue
        suffix = Path(name).suffix.lower()
        content = read_video(path) if suffix in MIME_TYPES else _read(path, name)
        found[path] = OutputFile(content, suffix, item, name)
    return list(found.values())


def _items(outputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for node in outputs.values():
        for items in node.values() if isinstance(node, dict) else ():
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and item.get("type") == "output":
                    yield item


def _read(path: str, name: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise JobError("NO_OUTPUT", f"ComfyUI finished, but the file {name} is not there") from None
    if not content:
        raise JobError("NO_OUTPUT", f"ComfyUI finished, but the file {name} is empty")
    return content
