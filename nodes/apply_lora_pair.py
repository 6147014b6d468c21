"""The node that puts a LoRA on each of the two experts and says what it did."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .engine.files.lora_patches import LoraFile, apply_lora, read_lora
from .engine.files.model_files import lora_file, lora_files, maps_files, state_of
from .rules.errors import InvalidInput, WanRelayError
from .rules.files.expert_files import NO_FILE
from .rules.files.lora_files import check_lora_pair


class ApplyLoraPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [NO_FILE, *lora_files()]
        strength = {"default": 1.0, "min": -20.0, "max": 20.0, "step": 0.01}
        return io.Schema(
            node_id="WanRelay_ApplyLoraPair",
            display_name="Wan Relay: Apply LoRA Pair",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            description=(
                "Puts one LoRA on each expert, reads every common key style, and reports how many keys were applied. "
                "A LoRA that fits nothing is an error. Several of these nodes can be chained."
            ),
            search_aliases=["wan lora", "lora loader", "high low lora", "lightning lora", "4 step lora"],
            inputs=[
                io.Model.Input("high_noise", tooltip="The high-noise expert."),
                io.Model.Input(
                    "low_noise", optional=True, tooltip="The low-noise expert; leave unconnected for TI2V-5B."
                ),
                io.Combo.Input(
                    "high_noise_lora", options=files, tooltip="The LoRA for the high-noise expert, or none."
                ),
                io.Combo.Input("low_noise_lora", options=files, tooltip="The LoRA for the low-noise expert, or none."),
                io.Float.Input(
                    "high_noise_strength", **strength, tooltip="Strength of the high-noise LoRA; 0 skips it."
                ),
                io.Float.Input("low_noise_strength", **strength, tooltip="Strength of the low-noise LoRA; 0 skips it."),
            ],
            outputs=[
                io.Model.Output(
                    "high_noise", display_name="high_noise", tooltip="The high-noise expert with its LoRA."
                ),
                io.Model.Output("low_noise", display_name="low_noise", tooltip="The low-noise expert with its LoRA."),
                io.String.Output(
                    "report", display_name="report", tooltip="How many keys were applied on each expert, as JSON."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, high_noise_lora: str | None = None, low_noise_lora: str | None = None) -> bool | str:
        try:
            high, low = (
                None if name in (None, NO_FILE) else lora_file(input_name, name)
                for input_name, name in (("high_noise_lora", high_noise_lora), ("low_noise_lora", low_noise_lora))
            )
            check_lora_pair(high, low, mapped=maps_files())
        except WanRelayError as problem:
            return str(problem)
        return True

    @classmethod
    def fingerprint_inputs(cls, high_noise_lora: str = NO_FILE, low_noise_lora: str = NO_FILE, **kwargs: Any) -> str:
        known = set(lora_files())
        return json.dumps(
            [state_of(lora_file("", name)) if name in known else name for name in (high_noise_lora, low_noise_lora)]
        )

    @classmethod
    def execute(
        cls,
        high_noise: Any,
        high_noise_lora: str,
        low_noise_lora: str,
        high_noise_strength: float,
        low_noise_strength: float,
        low_noise: Any = None,
    ) -> io.NodeOutput:
        if low_noise is None and low_noise_lora != NO_FILE:
            raise InvalidInput(f"low_noise_lora: expected none because low_noise has no model, got {low_noise_lora!r}.")
        report: dict[str, Any] = {"high_noise": None, "low_noise": None, "warnings": []}
        read = cache(read_lora)  # one file may serve both experts
        high = _apply(report, "high_noise", high_noise, high_noise_lora, high_noise_strength, read)
        low = _apply(report, "low_noise", low_noise, low_noise_lora, low_noise_strength, read)
        if high_noise_lora == NO_FILE and low_noise_lora == NO_FILE:
            report["warnings"].append("Both LoRAs are none: the experts pass through unchanged.")
        return io.NodeOutput(high, low, json.dumps(report), ui={"wan_relay": [report]})


def _apply(
    report: dict[str, Any], slot: str, model: Any, name: str, strength: float, read: Callable[[Path], LoraFile]
) -> Any:
    if name == NO_FILE:
        return model
    path = lora_file(f"{slot}_lora", name)
    if strength == 0:
        nothing = {"applied": 0, "harmless": 0, "unmatched": 0, "layers": 0, "examples": []}
        report[slot] = {"file": path.name, "strength": strength, **nothing}
        return model
    model, report[slot], warnings = apply_lora(model, read(path), strength, slot)
    report["warnings"] += warnings
    return model
