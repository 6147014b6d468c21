"""The video file that a run left in ComfyUI's output folder."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract.errors import JobError

MIME_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska", ".mov": "video/quicktime"}
VIDEO_KEYS = ("images", "videos", "video", "gifs")


@dataclass
class Video:
    """A finished file and what is known about it."""

    content: bytes
    suffix: str
    item: dict[str, Any] = field(default_factory=dict)

    @property
    def mime_type(self) -> str:
        return MIME_TYPES[self.suffix]


def find_video(outputs: dict[str, Any], output_directory: Path) -> Video:
    """The first saved video of a history entry, whichever key its node uses. Raises JobError NO_OUTPUT."""
    root = os.path.realpath(output_directory)
    for node in outputs.values():
        for key in VIDEO_KEYS:
            for item in node.get(key) or () if isinstance(node, dict) else ():
                if not isinstance(item, dict) or item.get("type") != "output":
                    continue
                name, suffix = str(item.get("filename", "")), Path(str(item.get("filename", ""))).suffix.lower()
                path = os.path.realpath(os.path.join(root, str(item.get("subfolder", "")), name))
                if suffix in MIME_TYPES and os.path.commonpath((root, path)) == root:
                    return Video(read_video(path), suffix, item)
    raise JobError("NO_OUTPUT", "ComfyUI finished, but none of its nodes saved a video")


def read_video(path: str) -> bytes:
    """Raises JobError NO_OUTPUT for what is missing, empty or no video."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise JobError("NO_OUTPUT", "ComfyUI finished, but the video file is not there") from None
    if not content:
        raise JobError("NO_OUTPUT", "ComfyUI finished, but the video file is empty")
    if content[4:8] != b"ftyp" and content[:4] != b"\x1a\x45\xdf\xa3":
        raise JobError("NO_OUTPUT", "ComfyUI finished, but the file it saved is not a video")
    return content
