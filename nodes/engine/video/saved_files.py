"""Which files a saving node has written, so that its cached result is used only while they exist."""

import uuid
from pathlib import Path

MOST_FILES = 1000


class SavedFiles:
    """Tokens for `fingerprint_inputs`, one for each node id.

    ComfyUI serves a node from its cache while the token stays the same. It knows neither the images nor the file at
    that point, so the token holds for all files of the node together: it changes as soon as one of them is missing.
    Tokens of two processes never agree, since the record lives in one of them.
    """

    def __init__(self) -> None:
        self._paths: dict[str, set[Path]] = {}
        self._tokens: dict[str, str] = {}

    def add(self, node_id: str, path: Path) -> None:
        self._paths.setdefault(node_id, set()).add(path)

    def token(self, node_id: str) -> str:
        paths = self._paths.get(node_id, set())
        stale = len(paths) > MOST_FILES or not all(path.exists() for path in paths)
        if stale or node_id not in self._tokens:
            self._paths[node_id] = set()
            self._tokens[node_id] = uuid.uuid4().hex
        return self._tokens[node_id]
