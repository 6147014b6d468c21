"""Model files in Hugging Face caches, as RunPod's cached models are: links of the worker's own, by plain file names.

    models--OWNER--NAME/refs/main            the name of the newest snapshot
    models--OWNER--NAME/snapshots/HASH/...   the repository's files, each a link to ../../blobs/SHA256
    models--OWNER--NAME/blobs/SHA256         the content

A file below a folder called like one of ComfyUI's (`split_files/diffusion_models/x.safetensors`) is shown as a file of
that kind, any other (`x.safetensors`) as one of every kind, since nothing says of which.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .places import KINDS, SUBFOLDERS

SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")
_KIND_OF = {folder: kind for kind in KINDS for folder in SUBFOLDERS.get(kind, (kind,))}
_KINDS_OF_ANY = tuple(kind for kind in KINDS if kind != "embeddings")


@dataclass
class CachedModels:
    """What the caches hold: (kind, name) -> the paths of that name, of which the first is used."""

    snapshots: list[Path] = field(default_factory=list)
    files: dict[tuple[str, str], list[Path]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_cached_models(hubs: Iterable[Path]) -> CachedModels:
    """The model files of every repository's newest snapshot, in the order of the names."""
    found = CachedModels()
    for hub in hubs:
        for repository in sorted(hub.glob("models--*")):
            snapshot = _newest(repository, found.notes)
            if snapshot is None:
                continue
            found.snapshots.append(snapshot)
            for path in _model_files(snapshot, found.notes):
                for place in _shown_as(path.relative_to(snapshot)):
                    found.files.setdefault(place, []).append(path)
    return found


def link_cached_models(found: CachedModels, folder: Path) -> None:
    """Makes `folder` hold a link for each file, in a folder for each kind, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for (kind, name), paths in found.files.items():
        link = folder / kind / name
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(paths[0].absolute())
        except OSError:  # a file `a` beside one called `a/b`: the first stays
            found.notes.append(f"{paths[0]} could not be linked as {kind}/{name}")


def _newest(repository: Path, notes: list[str]) -> Path | None:
    """The snapshot of refs/main; without one, the one that was changed last. None where nothing was downloaded."""
    try:
        snapshots = [path for path in (repository / "snapshots").iterdir() if path.is_dir()]
        snapshots.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    except OSError:
        snapshots = []
    try:
        named = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        named = ""
    if main := next((path for path in snapshots if path.name == named), None):
        return main
    if not snapshots:
        notes.append(f"{repository} has no snapshot")
        return None
    if named:
        notes.append(f"{repository} has no snapshot {named}, which its refs/main names; {snapshots[-1].name} is used")
    return snapshots[-1]


def _model_files(snapshot: Path, notes: list[str]) -> Iterator[Path]:
    """Those that can be read. What is wrong with the others goes into `notes`."""
    own = os.path.realpath(snapshot.parents[1])
    for folder, folders, names in os.walk(snapshot):
        folders.sort()
        for name in folders:
            if os.path.islink(path := os.path.join(folder, name)):
                notes.append(f"{path} is a link to a folder, and was not followed")
        for name in sorted(names):
            if not name.lower().endswith(SUFFIXES):
                continue
            path = os.path.join(folder, name)
            if not os.path.isfile(path):
                notes.append(f"{path} is a link to nothing; its download may not have ended")
                continue
            target = os.path.realpath(path)
            if os.path.commonpath((own, target)) != own:
                notes.append(f"{path} is a link out of its repository, to {target}")
            yield Path(path)


def _shown_as(path: Path) -> list[tuple[str, str]]:
    """(kind, name) of a file of a repository: by its plain name, and with the folders below its kind's."""
    for index in range(len(path.parts) - 2, -1, -1):
        if kind := _KIND_OF.get(path.parts[index].lower()):
            below = "/".join(path.parts[index + 1 :])
            return [(kind, name) for name in dict.fromkeys((path.name, below))]
    return [(kind, path.name) for kind in _KINDS_OF_ANY]
