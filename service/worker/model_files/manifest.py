"""What the workflows need, and what is there: said in the log when the worker starts, and in the answer to a ping."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...contract.video_request import WORKFLOW_IMAGES
from ..settings import VOLUME, Settings
from ..upscale_model import upscale_files
from ..workflow import ModelFile, model_files
from .hub_cache import CachedModels, find_cached_models
from .places import ModelPlaces, candidates, model_places


@dataclass(frozen=True)
class Manifest:
    """`lacking`: workflow -> files that it misses; `looked_in`: folder -> whether it is there; `doubles`: file name ->
    the paths of different files of that name, of which the first is used."""

    lacking: dict[str, list[ModelFile]]
    looked_in: dict[Path, bool]
    doubles: dict[str, list[Path]]
    notes: list[str]

    def workflows(self) -> dict[str, Any]:
        """workflow -> "ready", or what it lacks."""
        return {
            name: {"missing": [file.name for file in files]} if files else "ready"
            for name, files in self.lacking.items()
        }

    def to_wire(self) -> dict[str, Any]:
        absent = {file.name: list(file.folders) for files in self.lacking.values() for file in files}
        return {
            "looked_in": {
                str(place): "there" if is_there else "not there" for place, is_there in self.looked_in.items()
            },
            "missing": {name: " or ".join(folders) for name, folders in absent.items()},
            "twice": {
                name: {"used": str(used), "not_used": list(map(str, others))}
                for name, (used, *others) in self.doubles.items()
            },
            "notes": self.notes,
        }

    def lines(self) -> Iterator[str]:
        """Of the log."""
        for name, files in self.lacking.items():
            lacks = ", ".join(f"{file.folders[0]}/{file.name}" for file in files)
            yield f"{name} lacks {lacks}" if files else f"{name} has its files"
        if any(self.lacking.values()):
            places = [f"{place}{'' if is_there else ' (not there)'}" for place, is_there in self.looked_in.items()]
            yield f"looked in {', '.join(places)}"
        for name, (used, *others) in self.doubles.items():
            yield f"{name} is there more than once: {used} is used, {' and '.join(map(str, others))} not"
        yield from self.notes


def check_models(settings: Settings) -> Manifest:
    """Of the bundled workflows. Without a network for frames in between FFmpeg makes them: none is missing."""
    needed = {name: [*model_files(name, settings), *upscale_files(name, settings)] for name in WORKFLOW_IMAGES}
    return check_files(needed, model_places(settings), find_cached_models(settings.hubs), settings)


def check_files(
    needed: Mapping[str, Sequence[ModelFile]], places: ModelPlaces, cached: CachedModels, settings: Settings
) -> Manifest:
    """`needed`: workflow -> its files."""
    files = list(dict.fromkeys(file for each in needed.values() for file in each))
    looked_in = [places.own, *(base for section in places.sections for base in section.bases)]
    for hub in settings.hubs:
        looked_in += [snapshot for snapshot in cached.snapshots if snapshot.is_relative_to(hub)] or [hub]
    own = {os.path.realpath(place) for place in (*looked_in, *settings.roots, *settings.hubs)}
    notes = [*places.notes, *_absent_roots(settings), *cached.notes]
    links = settings.cached_models.absolute()
    there: dict[ModelFile, list[Path]] = {}
    for file in files:
        paths = list[Path]()
        for path in candidates(file, places.folders):
            if path.is_relative_to(links):
                kind, *name = path.relative_to(links).parts
                paths += cached.files.get((kind, "/".join(name)), ())
            else:
                notes += _link_faults(path, own)
                paths += [path] if path.is_file() else []
        there[file] = _different(paths)
    return Manifest(
        {name: [file for file in each if not there[file]] for name, each in needed.items()},
        {place: place.is_dir() for place in looked_in},
        {file.name: paths for file, paths in there.items() if len(paths) > 1},
        list(dict.fromkeys(notes)),
    )


def _absent_roots(settings: Settings) -> list[str]:
    if settings.roots == [VOLUME]:  # nobody said that there is one
        return []
    return [f"{root} of WAN_RELAY_MODEL_ROOTS is not there" for root in settings.roots if not root.is_dir()]


def _link_faults(path: Path, own: set[str]) -> Iterator[str]:
    """A sentence for a link to nothing, or out of `own`, the real paths of the places."""
    if not path.is_file():
        if path.is_symlink():
            yield f"{path} is a link to nothing"
        return
    target = os.path.realpath(path)
    if not any(os.path.commonpath((place, target)) == place for place in own):
        yield f"{path} is a link out of the folders that are searched, to {target}"


def _different(paths: Iterable[Path]) -> list[Path]:
    """Each file once, by its first path."""
    files: dict[str, Path] = {}
    for path in paths:
        files.setdefault(os.path.realpath(path), path)
    return list(files.values())
