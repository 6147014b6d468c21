"""A Hugging Face cache as huggingface_hub makes it: refs, snapshots of links, and blobs named by their content."""

import hashlib
import os
from pathlib import Path

NEWEST, OLDER = "b" * 40, "a" * 40


def cached_repository(
    hub: Path, name: str, files: dict[str, bytes | Path], commit: str = NEWEST, is_main: bool = True
) -> Path:
    """`files`: path in the repository -> content, or the file that has it. Returns the snapshot."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True, exist_ok=True)
    for path, source in files.items():
        content = source.read_bytes() if isinstance(source, Path) else source
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if is_main:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return snapshot
