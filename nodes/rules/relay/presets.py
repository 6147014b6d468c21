"""The settings that the authors of each family of Wan2.2 files recommend, and which family a pair of files is of.

Sources, read in November 2026: the Wan2.2 reference's configurations (the base pairs, TI2V-5B), DaSiWa's own workflow
C-AiO-91, lightx2v's cards and configurations, SVI 2.0 Pro's workflow, TurboDiffusion's wan2.2_i2v_infer.py (rCM: its
default sampler adds new noise at each step, which is ComfyUI's lcm).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..files.expert_kind import I2V, T2V, TI2V_5B
from ..files.expert_name import is_distilled_file, path_parts

Settings = dict[str, str | int | float]

# Only what matters: linear_quadratic has no use for shift, a switch by step none for the boundary.
PRESETS: dict[str, Settings] = {
    "dasiwa": {
        "steps": 4, "high_noise_cfg": 1.0, "low_noise_cfg": 1.0, "sampler": "euler", "scheduler": "linear_quadratic",
        "switch": "step", "switch_step": 2,
    },
    "four_steps": {
        "steps": 4, "high_noise_cfg": 1.0, "low_noise_cfg": 1.0, "sampler": "euler", "scheduler": "simple",
        "shift": 5.0, "switch": "step", "switch_step": 2,
    },
    "svi": {
        "steps": 6, "high_noise_cfg": 1.0, "low_noise_cfg": 1.0, "sampler": "euler", "scheduler": "simple",
        "shift": 8.0, "switch": "step", "switch_step": 3,
    },
    "rcm": {
        "steps": 4, "high_noise_cfg": 1.0, "low_noise_cfg": 1.0, "sampler": "lcm", "scheduler": "simple",
        "shift": 5.0, "switch": "boundary", "boundary": 0.9,
    },
    "base_high": {  # the LoRA on the low-noise expert alone, for more motion: people use 8 to 12 steps
        "steps": 8, "high_noise_cfg": 3.5, "low_noise_cfg": 1.0, "sampler": "euler", "scheduler": "simple",
        "shift": 5.0, "switch": "step", "switch_step": 4,
    },
    "i2v_reference": {
        "steps": 40, "high_noise_cfg": 3.5, "low_noise_cfg": 3.5, "sampler": "flow_unipc",
        "scheduler": "official_unipc", "shift": 5.0, "switch": "boundary", "boundary": 0.9,
    },
    "t2v_reference": {
        "steps": 40, "high_noise_cfg": 4.0, "low_noise_cfg": 3.0, "sampler": "flow_unipc",
        "scheduler": "official_unipc", "shift": 12.0, "switch": "boundary", "boundary": 0.875,
    },
    "ti2v_5b_reference": {
        "steps": 50, "high_noise_cfg": 5.0, "sampler": "flow_unipc", "scheduler": "official_unipc", "shift": 5.0,
    },
}  # fmt: skip

# What the same authors name as working as well.
ALSO_GOOD: dict[str, dict[str, list[str | int]]] = {
    "dasiwa": {"scheduler": ["simple"]},
    "ti2v_5b_reference": {"steps": [30]},
}

_DASIWA = re.compile(
    r"dasiwa|tastysin|synth[\s._-]?seduction|boundbite|snatchkiss|midnight[\s._-]?flirt", re.IGNORECASE
)
_RCM = re.compile(r"(?<![a-z])rcm(?![a-z])", re.IGNORECASE)
_SVI_LORA = re.compile(r"(?<![A-Za-z])svi(?![a-z])", re.IGNORECASE)
_REFERENCES = {I2V: "i2v_reference", T2V: "t2v_reference"}


@dataclass(frozen=True)
class Recognised:
    """The key of PRESETS, and the file whose name told."""

    preset: str
    file: str


def recognise_pair(
    kind: str, high: str, low: str | None, high_loras: Sequence[str] = (), low_loras: Sequence[str] = ()
) -> Recognised | None:
    """The preset for two expert files with their LoRAs, by the names alone; `kind` is that of the experts.

    None for a pair of which one half is made for a few steps and the other is not, and for a kind that has no preset.
    """
    if kind == TI2V_5B:
        return None if distilled_file(high, high_loras) else Recognised("ti2v_5b_reference", high)
    few = [distilled_file(high, high_loras), distilled_file(low or "", low_loras)]
    if kind not in _REFERENCES or (few[0] is None) != (few[1] is None):
        return None
    if few[0] is None:
        return Recognised(_REFERENCES[kind], high)
    svi = next((lora for lora in high_loras if _SVI_LORA.search(_file(lora))), None)
    if svi and any(_SVI_LORA.search(_file(lora)) for lora in low_loras):
        return Recognised("svi", svi)
    if all(file and _RCM.search(_file(file)) for file in few):
        return Recognised("rcm", few[0])
    return Recognised("dasiwa" if _DASIWA.search(few[0]) else "four_steps", few[0])


def distilled_file(expert: str, loras: Sequence[str]) -> str | None:
    """The file that makes one expert work in a few steps: a LoRA, else the checkpoint itself."""
    return next((file for file in (*loras, expert) if is_distilled_file(file)), None)


def _file(path: str) -> str:
    return path_parts(path)[-1] if path else ""
