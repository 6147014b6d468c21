"""The bundled workflows, and the same on the toy family: its files, its size, what it can do."""

from __future__ import annotations

import json
from typing import Any

from .environment import ROOT
from .processes import DevError

# What stands in for each real file that a bundled workflow names, when the toy family runs it.
TOY_FILES = {
    "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors": "toy_wan2.2_i2v_high_noise_4step.safetensors",
    "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors": "toy_wan2.2_i2v_low_noise_4step.safetensors",
    "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_i2v_high_noise.safetensors",
    "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_i2v_low_noise.safetensors",
    "wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise.safetensors": "toy_wan2.2_i2v_high_noise_4step_lora.safetensors",
    "wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise.safetensors": "toy_wan2.2_i2v_low_noise_4step_lora.safetensors",
    "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_t2v_high_noise_4step.safetensors",
    "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_t2v_low_noise_4step.safetensors",
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors": "none",  # that toy pair has it merged
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_low_noise.safetensors": "none",
    "wan2.2_ti2v_5B_fp16.safetensors": "toy_wan2.2_ti2v_5b.safetensors",
    "wan_2.1_vae.safetensors": "toy_wan_2.1_vae.safetensors",
    "wan2.2_vae.safetensors": "toy_wan2.2_vae.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": "toy_umt5.safetensors",
    "RealESRGAN_x4plus.safetensors": "toy_upscaler_x2.safetensors",
}
# The family has no network for frames in between: without one Interpolate Frames has FFmpeg make them.
LEFT_OUT = "FrameInterpolationModelLoader"
TOY_SIZE = {"width": 240, "height": 160, "length": 33}
TOY_SEGMENT = 33  # frames of the longest clips in the toy's training; at 81 its pictures fall apart
TOY_PROMPT = "The camera pans left."  # the toy family knows camera moves only: see toy/README.md
TOY_MAX_CFG = 1.5
MUTED = 2  # a mode of the graph editor's nodes, whose links then count as none


def bundled_workflow(name: str) -> dict[str, Any]:
    path = ROOT / "workflows" / "api" / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.json")))
        raise DevError(f"--workflow: there is no bundled workflow {name!r}; there are {names}.")
    return json.loads(path.read_text())


def with_toy_files(value: Any) -> Any:
    """A copy of any JSON value in which every real model file name is the toy file's that stands in for it.

    Of an API-format workflow without what the family has no file for.
    """
    if isinstance(value, dict):
        if value.get("class_type") == "WanRelay_InterpolateFrames":
            value = value | {"inputs": {name: item for name, item in value["inputs"].items() if name != "model"}}
        kept = {k: v for k, v in value.items() if not (isinstance(v, dict) and v.get("class_type") == LEFT_OUT)}
        return {key: with_toy_files(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [with_toy_files(item) for item in value]
    return TOY_FILES.get(value, value) if isinstance(value, str) else value


def toy_graph(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph template with toy files and what they can do, at a size that a CPU makes in a minute."""
    graph = with_toy_files(graph)
    for node in graph["nodes"]:
        values = node.get("widgets_values")
        if node["type"] == "WanRelay_PrepareLatent":  # sizing, width, height, fit, length
            values[1:3], values[4] = [TOY_SIZE["width"], TOY_SIZE["height"]], TOY_SIZE["length"]
        elif node["type"] == "WanRelay_EncodePrompts":  # text encoder, prompt
            values[1] = TOY_PROMPT
        elif node["type"] == "WanRelay_Sample":  # seed, control after generate, steps, the experts' cfg
            values[3:5] = [min(cfg, TOY_MAX_CFG) for cfg in values[3:5]]
        elif node["type"] == "WanRelay_LongVideo":  # prompts, segment length
            values[1] = TOY_SEGMENT
        elif node["type"] == "WanRelay_OpeningLeg":  # steps, cfg
            values[1] = min(values[1], TOY_MAX_CFG)
        elif node["type"] == LEFT_OUT:
            node["mode"] = MUTED
            node["properties"].pop("models", None)
    return graph


def opening_steps(workflow: dict[str, Any]) -> list[int]:
    """The steps of each opening leg of an API-format workflow, first to last."""
    steps: list[int] = []
    link = inputs_of(workflow, "WanRelay_Sample").get("opening")
    while link:
        leg = workflow[link[0]]["inputs"]
        steps.insert(0, leg["steps"])
        link = leg.get("previous")
    return steps


def inputs_of(workflow: dict[str, Any], class_type: str, title: str | None = None) -> dict[str, Any]:
    """The inputs of the one node of that class, and of that title where one is given; empty where there is none."""
    found = [
        node["inputs"]
        for node in workflow.values()
        if node["class_type"] == class_type and title in (None, node["_meta"]["title"])
    ]
    return found[0] if found else {}
