"""The checks of a pair of LoRA files, from file headers and names only: nothing is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from ..errors import FileRefused
from ..experts import HIGH_NOISE, LOW_NOISE
from .expert_files import is_distilled, read_model_header
from .expert_kind import recognise
from .expert_name import expert_from_name
from .lora_plan import ANY_WAN, LoraPlan, Shape, plan_lora
from .safetensors_header import FileHeader, read_header
from .shown_text import shown


class LoraPairReport(TypedDict):
    """For each expert the file and the counts of LoraPlan, None without a LoRA; and sentences."""

    high_noise: dict[str, Any] | None
    low_noise: dict[str, Any] | None
    warnings: list[str]


def check_lora_pair(
    high_lora: str | Path | None,
    low_lora: str | Path | None,
    high_expert: str | Path | None = None,
    low_expert: str | Path | None = None,
    mapped: bool = False,
) -> LoraPairReport:
    """Tell what two LoRA files will do to two expert files.

    Without the experts the keys are matched with the names of any Wan network, and shapes are not compared; `mapped` as
    in `read_header`. Raises FileRefused, one sentence that names the input, for a file that is not a LoRA for Wan.
    """
    found: list[dict[str, Any] | None] = []
    warnings: list[str] = []
    for slot, lora, expert in ((HIGH_NOISE, high_lora, high_expert), (LOW_NOISE, low_lora, low_expert)):
        if lora is None:
            found.append(None)
            continue
        expert_header = None if expert is None else read_model_header(expert, mapped)
        counts, said = _check_lora(slot, Path(lora), expert_header, mapped)
        found.append(counts)
        warnings += said
    return {"high_noise": found[0], "low_noise": found[1], "warnings": warnings}


def _check_lora(slot: str, lora: Path, expert: FileHeader | None, mapped: bool) -> tuple[dict[str, Any], list[str]]:
    try:
        header = read_header(lora, mapped)
    except FileRefused as problem:
        raise FileRefused(f"{slot}_lora: {problem}") from None
    expert_name = expert.path.name if expert else "the expert"
    network = _network_of(expert) if expert else ANY_WAN
    plan = plan_lora({name: info.shape for name, info in header.tensors.items()}, network, slot)
    refuse_no_match(slot, lora.name, expert_name, plan)
    warnings = plan_warnings(slot, lora.name, expert_name, plan) + name_warnings(slot, lora)
    if expert and is_distilled(lora, header.metadata) and is_distilled(expert.path, expert.metadata):
        warnings.append(twice_distilled(slot, lora.name, expert_name))
    return {"file": lora.name, **plan.counts()}, warnings


def refuse_no_match(slot: str, file: str, expert: str, plan: LoraPlan) -> None:
    """Raise FileRefused when not one key of a LoRA file applies."""
    if not plan.applied and plan.misfit:
        raise FileRefused(
            f"{slot}_lora: expected a LoRA made for this model, but the widths differ: "
            f"{plan.misfit.in_words(file, expert)}."
        )
    if not plan.applied:
        num_keys = len(plan.harmless) + len(plan.unmatched)
        example = (plan.unmatched or plan.harmless)[0]
        raise FileRefused(
            f"{slot}_lora: expected a LoRA for this Wan expert, but none of the {num_keys} keys of {file} fits it "
            f"(e.g. {shown(example)})."
        )


def plan_warnings(slot: str, file: str, expert: str, plan: LoraPlan) -> list[str]:
    if not plan.unmatched:
        return []
    example = plan.misfit.in_words(file, expert) if plan.misfit else shown(plan.unmatched[0])
    total = len(plan.applied) + len(plan.harmless) + len(plan.unmatched)
    return [
        f"{slot}_lora: {len(plan.unmatched)} of the {total} keys of {file} match nothing in the expert and are not "
        f"applied (e.g. {example})."
    ]


def name_warnings(slot: str, path: Path) -> list[str]:
    named = expert_from_name(path)
    if named is None or named == slot:
        return []
    return [f"{slot}_lora: the name {path.name} speaks of the {named.replace('_', '-')} expert."]


def twice_distilled(slot: str, lora: str, expert: str) -> str:
    return (
        f"{slot}_lora: {lora} and {expert} are both made for a few steps, and the effect must not be applied twice; "
        f"set {slot}_lora to none."
    )


def _network_of(header: FileHeader) -> Mapping[str, Shape | None]:
    shapes = {name: info.shape for name, info in header.tensors.items()}
    prefix = recognise(shapes).prefix
    packed = {name for name, info in header.tensors.items() if info.dtype in ("U8", "I8")}
    return {
        name[len(prefix) :]: None if name in packed else shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
