"""The checks of one expert file and of a pair, from file headers and names only: nothing is loaded."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from ..errors import FileRefused
from ..experts import HIGH_NOISE, LOW_NOISE
from .expert_kind import I2V, KIND_NAMES, T2V, TI2V_5B, Network, recognise
from .expert_name import expert_from_name, is_distilled_file, is_distilled_name, is_wan_2_1_name
from .gguf_header import read_gguf_header
from .safetensors_header import FileHeader, read_header
from .same_content import same_content
from .scale_markers import precision, refuse_lost_scales
from .shown_text import shown

NO_FILE = "none"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_TITLES = ("modelspec.title", "title", "name", "ss_output_name")


@dataclass(frozen=True)
class ExpertFacts:
    """What the header and the name of one model file say; `named` is the expert that the name speaks of."""

    file: str
    kind: str
    precision: str
    bytes: int
    num_tensors: int
    prefix: str
    dim: int
    num_layers: int
    named: str | None
    distilled: bool


@dataclass(frozen=True)
class Expert:
    """A checked file: its facts, and what the pair check needs beyond them."""

    facts: ExpertFacts
    header: FileHeader
    network: Network


class PairReport(TypedDict):
    """The fields of ExpertFacts for each file, and sentences about what works but may not be meant."""

    high_noise: dict[str, Any]
    low_noise: dict[str, Any] | None
    warnings: list[str]


def check_expert(path: str | Path, mapped: bool = False) -> ExpertFacts:
    """Check one model file by its header: a complete Wan network whose scales ComfyUI will read.

    `mapped` as in `read_header`. Raises FileRefused, one sentence, for anything else.
    """
    return _read_expert(Path(path), mapped).facts


def check_pair(high_path: str | Path, low_path: str | Path | None, mapped: bool = False) -> PairReport:
    """Check that two files can be the high-noise and the low-noise expert of one Wan2.2 model.

    `low_path` is None for TI2V-5B, which is one model; `mapped` as in `read_header`. Raises FileRefused, one sentence
    that names the input.
    """
    high = _read_slot(HIGH_NOISE, Path(high_path), mapped)
    low = None if low_path is None else _read_slot(LOW_NOISE, Path(low_path), mapped)
    _refuse_pair(high, low)
    return {
        "high_noise": asdict(high.facts),
        "low_noise": None if low is None else asdict(low.facts),
        "warnings": _warnings(high, low),
    }


def is_distilled(path: str | Path, metadata: Mapping[str, Any]) -> bool:
    """Whether a file's name, its folder or its title in the metadata says that it is made for a few steps."""
    return is_distilled_file(path) or any(is_distilled_name(str(metadata.get(key, ""))) for key in _TITLES)


def read_model_header(path: str | Path, mapped: bool = False) -> FileHeader:
    """The header of a model file, safetensors or GGUF by its ending; raises FileRefused for a damaged one."""
    return read_gguf_header(path) if Path(path).suffix.lower() == ".gguf" else read_header(path, mapped)


def _read_expert(path: Path, mapped: bool) -> Expert:
    header = read_model_header(path, mapped)
    if _SHARD.search(path.name):
        raise FileRefused(f"Expected a whole model, but {path.name} is one shard of a diffusers layout.")
    try:
        network = recognise({name: info.shape for name, info in header.tensors.items()})
        refuse_lost_scales(header, network)
    except FileRefused as problem:
        raise FileRefused(f"{path.name} cannot be used: {problem}.") from None
    facts = ExpertFacts(
        file=path.name,
        kind=network.kind,
        precision=precision(header, network),
        bytes=header.bytes,
        num_tensors=network.num_tensors,
        prefix=network.prefix,
        dim=network.dim,
        num_layers=network.num_layers,
        named=expert_from_name(path),
        distilled=is_distilled(path, header.metadata),
    )
    return Expert(facts, header, network)


def _read_slot(slot: str, path: Path, mapped: bool) -> Expert:
    try:
        expert = _read_expert(path, mapped)
    except FileRefused as problem:
        raise FileRefused(f"{slot}: {problem}") from None
    if expert.facts.kind not in (I2V, T2V, TI2V_5B):
        raise FileRefused(
            f"{slot}: expected a Wan2.2 I2V or T2V expert, but {path.name} is {KIND_NAMES[expert.facts.kind]}."
        )
    return expert


def _refuse_pair(high: Expert, low: Expert | None) -> None:
    ours = high.facts
    if low is None:
        if ours.kind != TI2V_5B:
            raise FileRefused(
                f"low_noise: expected the low-noise partner of {ours.file}, got none; only TI2V-5B works with one file."
            )
        return
    theirs = low.facts
    if same_content(high.header, ours.prefix, low.header, theirs.prefix):
        raise FileRefused(
            f"low_noise: {theirs.file} holds the same weights as {ours.file} in high_noise; expected the low-noise "
            "expert, which is another file."
        )
    if TI2V_5B in (ours.kind, theirs.kind):
        slot, file = (HIGH_NOISE, ours.file) if ours.kind == TI2V_5B else (LOW_NOISE, theirs.file)
        raise FileRefused(
            f"{slot}: {file} is the Wan2.2 TI2V-5B model, which has no second expert; put it in high_noise and set "
            "low_noise to none."
        )
    if ours.kind != theirs.kind:
        raise FileRefused(
            f"low_noise: expected {KIND_NAMES[ours.kind]} beside {ours.file} in high_noise, but {theirs.file} is "
            f"{KIND_NAMES[theirs.kind]}."
        )
    if (ours.dim, high.network.ffn_dim, ours.num_layers) != (theirs.dim, low.network.ffn_dim, theirs.num_layers):
        raise FileRefused(
            f"low_noise: expected {ours.num_layers} blocks of width {ours.dim} like {ours.file} in high_noise, but "
            f"{theirs.file} has {theirs.num_layers} of width {theirs.dim}."
        )


def _warnings(high: Expert, low: Expert | None) -> list[str]:
    warnings = []
    pairs = [(HIGH_NOISE, LOW_NOISE, high.facts)] + ([(LOW_NOISE, HIGH_NOISE, low.facts)] if low else [])
    for slot, other, facts in pairs:
        if facts.named == other:
            warnings.append(
                f"{slot}: the name {facts.file} speaks of the {other.replace('_', '-')} expert; "
                "with the two files swapped the video falls apart."
            )
        if facts.kind == T2V and is_wan_2_1_name(facts.file):
            warnings.append(
                f"{slot}: {facts.file} is named as a Wan2.1 model, which has no experts, though its shapes fit."
            )
    for slot, expert in ((HIGH_NOISE, high), (LOW_NOISE, low)):
        if expert and expert.network.unknown:
            unknown = expert.network.unknown
            warnings.append(
                f"{slot}: {len(unknown)} tensors of {expert.facts.file} belong to no Wan2.2 expert and are not used "
                f"(first {shown(unknown[0])})."
            )
    if low and high.facts.distilled != low.facts.distilled:
        few, many = (high, low) if high.facts.distilled else (low, high)
        warnings.append(
            f"{few.facts.file} is named as a model for a few steps and {many.facts.file} is not; "
            "experts are made to work in pairs of one version."
        )
    return warnings
