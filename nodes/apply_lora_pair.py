"""The node that puts LoRAs on the two experts, in pairs, and says what each of them did."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .engine.files.expert_origin import origin_of
from .engine.files.lora_patches import LoraFile, apply_lora, read_lora
from .engine.files.model_files import lora_file, lora_files, maps_files, state_of
from .engine.files.weight_memory import memory_for_weights, size_of_weights
from .rules.errors import InvalidInput, WanRelayError
from .rules.experts import HIGH_NOISE, LOW_NOISE
from .rules.files.expert_files import NO_FILE
from .rules.files.lora_files import LoraReport, add_row, check_lora_rows, empty_report
from .rules.files.lora_rows import MAX_PAIRS, MAX_STRENGTH, PAIRS, LoraRow, input_name, read_rows
from .rules.files.streamed_weights import repatching_warning


class ApplyLoraPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [NO_FILE, *lora_files()]
        rows = [_row_inputs(row, files) for row in range(1, MAX_PAIRS + 1)]
        return io.Schema(
            node_id="WanRelay_ApplyLoraPair",
            display_name="Wan Relay: Apply LoRA Pair",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            accept_all_inputs=True,  # so that a row that cannot be is refused, and not left out without a word
            description=(
                "Puts one LoRA on each expert, in up to six rows, reads every common key style, and reports how many "
                "keys were applied. A LoRA that fits nothing is an error. Several of these nodes can be chained."
            ),
            search_aliases=["wan lora", "lora loader", "lora stack", "high low lora", "lightning lora", "4 step lora"],
            inputs=[
                io.Model.Input("high_noise", tooltip="The high-noise expert."),
                io.Model.Input(
                    "low_noise", optional=True, tooltip="The low-noise expert; leave unconnected for TI2V-5B."
                ),
                *rows[0],
                io.DynamicCombo.Input(
                    PAIRS,
                    options=[
                        io.DynamicCombo.Option(str(number), [each for row in rows[1:number] for each in row])
                        for number in range(1, MAX_PAIRS + 1)
                    ],
                    optional=True,
                    tooltip="How many rows there are, each with a LoRA for either expert.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "high_noise", display_name="high_noise", tooltip="The high-noise expert with its LoRAs."
                ),
                io.Model.Output("low_noise", display_name="low_noise", tooltip="The low-noise expert with its LoRAs."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How many keys of each file were applied on each expert, row by row, as JSON.",
                ),
                io.String.Output(
                    "trigger_words",
                    display_name="trigger_words",
                    tooltip="The trigger words that the files name, with commas between them, to join to the prompt.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, **inputs: Any) -> bool | str:
        try:
            check_lora_rows(read_rows(inputs), lora_file, mapped=maps_files())
        except WanRelayError as problem:
            return str(problem)
        return True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> str:
        known = set(lora_files())
        files = [file for row in read_rows(inputs) for file in row.files]
        return json.dumps([state_of(lora_file("", file)) if file in known else file for file in files if file])

    @classmethod
    def execute(cls, high_noise: Any, low_noise: Any = None, **inputs: Any) -> io.NodeOutput:
        report = empty_report()
        rows = read_rows(inputs)
        models = {HIGH_NOISE: high_noise, LOW_NOISE: low_noise}
        read = cache(read_lora)  # one file may serve both experts
        for row in rows:
            warnings: list[str] = []
            high, low = (_apply(models, slot, row, read, warnings) for slot in (HIGH_NOISE, LOW_NOISE))
            add_row(report, high, low, warnings)
        if not any(pair[slot] for pair in report["pairs"] for slot in models):
            every = "Both LoRAs are none" if len(rows) == 1 and rows[0].is_on else "Every LoRA is none or off"
            report["warnings"].append(f"{every}: the experts pass through unchanged.")
        report["warnings"] += [said for slot in models if (said := _repatching(models[slot], slot, report))]
        words = ", ".join(report["trigger_words"])
        return io.NodeOutput(*models.values(), json.dumps(report), words, ui={"wan_relay": [report]})


def _row_inputs(row: int, files: list[str]) -> list[io.Input]:
    of_row = "" if row == 1 else f" of row {row}"
    further: dict[str, Any] = {} if row == 1 else {"optional": True}
    strength = {"default": 1.0, "min": -MAX_STRENGTH, "max": MAX_STRENGTH, "step": 0.01}
    experts = ((HIGH_NOISE, "high-noise"), (LOW_NOISE, "low-noise"))
    return [
        *(
            io.Combo.Input(
                input_name(f"{slot}_lora", row),
                options=files,
                tooltip=f"The LoRA{of_row} for the {name} expert, or none.",
                **further,
            )
            for slot, name in experts
        ),
        *(
            io.Float.Input(
                input_name(f"{slot}_strength", row),
                tooltip=f"Strength of the {name} LoRA{of_row}; 0 skips it.",
                **strength,
                **further,
            )
            for slot, name in experts
        ),
        io.Boolean.Input(
            input_name("is_on", row),
            default=True,
            optional=True,
            tooltip=f"Off leaves the LoRAs{of_row or ' of the first row'} out, and keeps what is chosen.",
        ),
    ]


def _apply(
    models: dict[str, Any], slot: str, row: LoraRow, read: Callable[[Path], LoraFile], warnings: list[str]
) -> dict[str, Any] | None:
    """Put the file of one row on the model of `slot`, in its place in `models`; returns what the report says of it."""
    file, strength = row.file(slot), row.strength(slot)
    if file is None or not row.has_lora(slot):
        return None
    named = input_name(f"{slot}_lora", row.number)
    if models[slot] is None:
        raise InvalidInput(f"{named}: expected none because {slot} has no model, got {file!r}.")
    path = lora_file(named, file)
    if strength == 0:
        nothing = {"applied": 0, "harmless": 0, "unmatched": 0, "layers": 0, "examples": [], "trigger_words": []}
        return {"file": path.name, "strength": strength, **nothing}
    models[slot], said, found = apply_lora(models[slot], read(path), strength, slot, row.number)
    warnings += found
    return said


def _repatching(model: Any, slot: str, report: LoraReport) -> str | None:
    """The warning about an expert that got a LoRA here and does not fit its device."""
    if not any(file["applied"] for pair in report["pairs"] if (file := pair[slot])):
        return None
    memory_bytes = memory_for_weights(model.load_device)
    if memory_bytes is None:
        return None
    origin = origin_of(model)
    return repatching_warning(slot, origin.file if origin else "the expert", *size_of_weights(model), memory_bytes)
