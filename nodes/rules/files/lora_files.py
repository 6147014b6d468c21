"""The checks of a pair of LoRA files, from file headers and names only: nothing is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FileRefused
from .expert_files import is_distilled, read_model_header
from .expert_kind import recognise, wan_tensors
from .expert_name import HIGH_NOISE, LOW_NOISE, expert_from_name
from .lora_plan import LoraPlan, Shape, plan_lora
from .safetensors_header import read_header

# Enough blocks for every Wan network; used where the expert itself is not known yet.
_ANY_WAN: dict[str, Shape | None] = dict.fromkeys(wan_tensors(40))


def check_lora_pair(
    high_lora: str | Path | None,
    low_lora: str | Path | None,
    high_expert: str | Path | None = None,
    low_expert: str | Path | None = None,
) -> dict[str, Any]:
    """Tell what two LoRA files will do to two expert files.

    Without the experts the keys are matched with the names of any Wan network, and shapes are not compared. Returns
    {"high_noise": counts or None, "low_noise": counts or None, "warnings": [sentence, ...]}. Raises FileRefused, one
    sentence that names the input, for a file that is not a LoRA for Wan.
    """
    report: dict[str, Any] = {HIGH_NOISE: None, LOW_NOISE: None, "warnings": []}
    for slot, lora, expert in ((HIGH_NOISE, high_lora, high_expert), (LOW_NOISE, low_lora, low_expert)):
        if lora is None:
            continue
        file = Path(lora).name
        try:
            header = read_header(lora)
        except FileRefused as problem:
            raise FileRefused(f"{slot}_lora: {problem}") from None
        network = _ANY_WAN if expert is None else _network_of(expert)
        plan = plan_lora({name: info.shape for name, info in header.tensors.items()}, network, slot)
        refuse_no_match(slot, file, plan)
        report[slot] = {"file": file, **plan.counts()}
        report["warnings"] += plan_warnings(slot, file, plan) + name_warnings(slot, Path(lora))
        if expert is not None and is_distilled(lora, header.metadata):
            expert_header = read_model_header(expert)
            if is_distilled(expert, expert_header.metadata):
                report["warnings"].append(twice_distilled(slot, file, Path(expert).name))
    return report


def refuse_no_match(slot: str, file: str, plan: LoraPlan) -> None:
    """Raise FileRefused when not one key of a LoRA file applies."""
    if not plan.applied:
        num_keys = len(plan.harmless) + len(plan.unmatched)
        example = (plan.unmatched or plan.harmless)[0]
        raise FileRefused(
            f"{slot}_lora: expected a LoRA for this Wan expert, but none of the {num_keys} keys of {file} fits it "
            f"(e.g. {example})."
        )


def plan_warnings(slot: str, file: str, plan: LoraPlan) -> list[str]:
    if not plan.unmatched:
        return []
    total = len(plan.applied) + len(plan.harmless) + len(plan.unmatched)
    return [
        f"{slot}_lora: {len(plan.unmatched)} of the {total} keys of {file} match nothing in the expert and are not "
        f"applied (e.g. {plan.unmatched[0]})."
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


def _network_of(expert: str | Path) -> Mapping[str, Shape | None]:
    header = read_model_header(expert)
    shapes = {name: info.shape for name, info in header.tensors.items()}
    prefix = recognise(shapes).prefix
    packed = {name for name, info in header.tensors.items() if info.dtype in ("U8", "I8")}
    return {
        name[len(prefix) :]: None if name in packed else shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
