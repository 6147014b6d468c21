"""Which model files a job's graph names: for the answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...contract.video_answer import ModelUse
from ..graph_nodes import Graph
from ..workflow import MODEL_INPUTS, ModelFile
from .hashes import ModelHashes
from .hub_cache import SUFFIXES
from .places import Folders, find_model

_ROLES = {"vae_name": "vae"}
# Loaders of the pack show a file of a second folder as `name [checkpoints]`.
_NAMED = re.compile(rf"(.+(?:{'|'.join(map(re.escape, SUFFIXES))}))(?: \[(\w+)\])?", re.IGNORECASE)
# `pairs.low_noise_lora_2` is low_noise_lora of the second row.
_ROW = re.compile(r"(?:\w+\.)?(\w+?)(?:_\d+)?")


@dataclass(frozen=True)
class NamedModel:
    """`name` as the graph has it."""

    role: str
    name: str
    file: ModelFile


def named_models(graph: Graph, folders: Folders) -> Iterator[NamedModel]:
    """Every model file that an input names, in the order of the bundled workflows' inputs, then of the graph."""
    order = list(MODEL_INPUTS)
    found = [
        (order.index(place) if (place := (node["class_type"], base)) in order else len(order), base, value)
        for node in graph.values()
        for name, value in node["inputs"].items()
        if isinstance(value, str) and _NAMED.fullmatch(value) and (base := _base(name))
        if node["inputs"].get(name.replace(base, "is_on")) is not False  # a row of LoRAs that is off
    ]
    for rank, base, value in sorted(found, key=lambda each: each[0]):
        match = _NAMED.fullmatch(value)
        assert match
        kinds = MODEL_INPUTS[order[rank]] if rank < len(order) else tuple(folders)
        yield NamedModel(_ROLES.get(base, base), value, ModelFile(match[1], (match[2],) if match[2] else kinds))


def used_models(graph: Graph, folders: Folders, hashes: ModelHashes) -> list[ModelUse]:
    """Reads no file; asks for the sha256 of those where it is not known yet."""
    named = list(dict.fromkeys(named_models(graph, folders)))
    paths = {model: find_model(model.file, folders) for model in named}
    there = {path for path in paths.values() if path}
    known = hashes.known(there)
    hashes.want(there - known.keys())
    return [
        ModelUse(
            role=model.role,
            file=model.name,
            bytes=_size(paths[model]),
            sha256=known.get(path) if (path := paths[model]) else None,
        )
        for model in named
    ]


def _base(name: str) -> str:
    match = _ROW.fullmatch(name)
    return match[1] if match else name


def _size(path: Path | None) -> int | None:
    try:
        return path.stat().st_size if path else None
    except OSError:
        return None
