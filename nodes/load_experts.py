"""The node that checks and loads the high-noise and the low-noise expert."""

import json
from typing import Any

from comfy_api.latest import io

from .engine.files.expert_loading import WEIGHT_DTYPES, load_pair
from .engine.files.model_files import ModelFile, expert_files, find_expert, maps_files, state_of
from .rules.errors import WanRelayError
from .rules.files.expert_files import NO_FILE, PairReport, check_pair
from .rules.files.partner_file import first_pair


class LoadExperts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = list(expert_files())
        high, low = first_pair(files) or (None, None)  # a new node begins with a pair, where the names tell one
        return io.Schema(
            node_id="WanRelay_LoadExperts",
            display_name="Wan Relay: Load Experts",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            description=(
                "Loads the two experts of a Wan2.2 model as a pair, after checking from the file headers that they "
                "belong together. Wan2.2 TI2V-5B is one model: put it in high_noise and set low_noise to none."
            ),
            search_aliases=["wan 2.2 loader", "load diffusion model pair", "high noise low noise", "UNETLoader"],
            inputs=[
                io.Combo.Input(
                    "high_noise",
                    options=files,
                    default=high,
                    tooltip="The expert for the noisy first steps: it lays out motion and composition.",
                ),
                io.Combo.Input(
                    "low_noise",
                    options=[*files, NO_FILE],
                    default=low,
                    tooltip="The expert for the last steps: it draws detail. Choose none only for Wan2.2 TI2V-5B.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="How both experts are kept in memory. default keeps the precision of the files.",
                ),
            ],
            outputs=[
                io.Model.Output("high_noise", display_name="high_noise", tooltip="The high-noise expert."),
                io.Model.Output(
                    "low_noise", display_name="low_noise", tooltip="The low-noise expert; nothing for TI2V-5B."
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="What the two files are, with warnings, as JSON."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, high_noise: str | None = None, low_noise: str | None = None) -> bool | str:
        if high_noise is None or low_noise is None:
            return True
        try:
            _check(high_noise, low_noise)
        except WanRelayError as problem:
            return str(problem)
        return True

    @classmethod
    def fingerprint_inputs(cls, high_noise: str | None = None, low_noise: str | None = None, **others: Any) -> str:
        files = expert_files()
        chosen = (files.get(name) for name in (high_noise, low_noise) if name)
        return json.dumps([state_of(file.path) for file in chosen if file])

    @classmethod
    def execute(cls, high_noise: str, low_noise: str, weight_dtype: str) -> io.NodeOutput:
        report, high_file, low_file = _check(high_noise, low_noise)
        high, low = load_pair(report, high_file, low_file, weight_dtype)
        return io.NodeOutput(high, low, json.dumps(report), ui={"wan_relay": [report]})


def _check(high_noise: str, low_noise: str) -> tuple[PairReport, ModelFile, ModelFile | None]:
    high = find_expert("high_noise", high_noise)
    low = None if low_noise == NO_FILE else find_expert("low_noise", low_noise)
    return check_pair(high.path, low.path if low else None, maps_files()), high, low
