"""The checks of a pair of LoRA files, from file headers and names only: nothing is loaded."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from ..errors import FileRefused
from ..experts import HIGH_NOISE, LOW_NOISE
from .expert_files import is_distilled, read_model_header
from .expert_kind import recognise
from .expert_name import expert_from_name
from .lora_plan import ANY_WAN, LoraPlan, Shape, plan_lora
from .lora_rows import LoraRow, input_name
from .safetensors_header import FileHeader, read_header
from .shown_text import shown
from .trigger_words import trigger_words


class LoraReport(TypedDict):
    """What the rows of Apply LoRA Pair do: the files of each, all trigger words once, and sentences.

    `pairs` has for each row and expert the file, the counts of LoraPlan and the trigger words; None without a LoRA, and
    for a row that is off.
    """

    pairs: list[dict[str, dict[str, Any] | None]]
    trigger_words: list[str]
    warnings: list[str]


class LoraPairReport(TypedDict):
    """For each expert the file, the counts of LoraPlan and the trigger words, None without a LoRA; and sentences."""

    high_noise: dict[str, Any] | None
    low_noise: dict[str, Any] | None
    warnings: list[str]


def empty_report() -> LoraReport:
    return {"pairs": [], "trigger_words": [], "warnings": []}


def add_row(report: LoraReport, high: dict[str, Any] | None, low: dict[str, Any] | None, warnings: list[str]) -> None:
    """Enter the next row and its warnings; a trigger word that is there already is not entered again."""
    report["pairs"].append({HIGH_NOISE: high, LOW_NOISE: low})
    words = [word for file in (high, low) if file for word in file["trigger_words"]]
    report["trigger_words"] = list(dict.fromkeys([*report["trigger_words"], *words]))
    report["warnings"] += warnings


def check_lora_rows(
    rows: Iterable[LoraRow],
    find: Callable[[str, str], Path],
    high_expert: Path | None = None,
    low_expert: Path | None = None,
    mapped: bool = False,
) -> LoraReport:
    """`check_lora_pair` for every row that is on; `find(input name, file name)` gives the path of a LoRA.

    A file that is not known before the run is not checked.
    """
    report = empty_report()
    for row in rows:
        high, low = (
            find(input_name(f"{slot}_lora", row.number), file) if file is not None and row.has_lora(slot) else None
            for slot, file in zip((HIGH_NOISE, LOW_NOISE), row.files, strict=True)
        )
        pair = check_lora_pair(high, low, high_expert, low_expert, mapped, row.number)
        add_row(report, pair["high_noise"], pair["low_noise"], pair["warnings"])
    return report


def check_lora_pair(
    high_lora: str | Path | None,
    low_lora: str | Path | None,
    high_expert: str | Path | None = None,
    low_expert: str | Path | None = None,
    mapped: bool = False,
    row: int = 1,
) -> LoraPairReport:
    """Tell what the two LoRA files of a row will do to two expert files.

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
        counts, said = _check_lora(slot, input_name(f"{slot}_lora", row), Path(lora), expert_header, mapped)
        found.append(counts)
        warnings += said
    return {"high_noise": found[0], "low_noise": found[1], "warnings": warnings}


def _check_lora(
    slot: str, named: str, lora: Path, expert: FileHeader | None, mapped: bool
) -> tuple[dict[str, Any], list[str]]:
    try:
        header = read_header(lora, mapped)
    except FileRefused as problem:
        raise FileRefused(f"{named}: {problem}") from None
    expert_name = expert.path.name if expert else "the expert"
    network = _network_of(expert) if expert else ANY_WAN
    plan = plan_lora({name: info.shape for name, info in header.tensors.items()}, network, slot)
    refuse_no_match(named, lora.name, expert_name, plan)
    warnings = plan_warnings(named, lora.name, expert_name, plan) + name_warnings(slot, named, lora)
    if expert and is_distilled(lora, header.metadata) and is_distilled(expert.path, expert.metadata):
        warnings.append(twice_distilled(named, lora.name, expert_name))
    return {"file": lora.name, **plan.counts(), "trigger_words": trigger_words(header.metadata)}, warnings


def refuse_no_match(named: str, file: str, expert: str, plan: LoraPlan) -> None:
    """Raise FileRefused when not one key of a LoRA file applies; `named` is its input, here and below."""
    if not plan.applied and plan.misfit:
        raise FileRefused(
            f"{named}: expected a LoRA made for this model, but the widths differ: "
            f"{plan.misfit.in_words(file, expert)}."
        )
    if not plan.applied:
        num_keys = len(plan.harmless) + len(plan.unmatched)
        example = (plan.unmatched or plan.harmless)[0]
        raise FileRefused(
            f"{named}: expected a LoRA for this Wan expert, but none of the {num_keys} keys of {file} fits it "
            f"(e.g. {shown(example)})."
        )


def plan_warnings(named: str, file: str, expert: str, plan: LoraPlan) -> list[str]:
    if not plan.unmatched:
        return []
    example = plan.misfit.in_words(file, expert) if plan.misfit else shown(plan.unmatched[0])
    total = len(plan.applied) + len(plan.harmless) + len(plan.unmatched)
    return [
        f"{named}: {len(plan.unmatched)} of the {total} keys of {file} match nothing in the expert and are not "
        f"applied (e.g. {example})."
    ]


def name_warnings(slot: str, named: str, path: Path) -> list[str]:
    expert = expert_from_name(path)
    if expert is None or expert == slot:
        return []
    return [f"{named}: the name {path.name} speaks of the {expert.replace('_', '-')} expert."]


def twice_distilled(named: str, lora: str, expert: str) -> str:
    return (
        f"{named}: {lora} and {expert} are both made for a few steps, and the effect must not be applied twice; "
        f"set {named} to none."
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
