"""What a demo is asked for, and the bundled workflow that does it; refuses what it can before anything is set up."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .arguments import number
from .environment import ROOT
from .processes import DevError, say
from .toy_workflows import TOY_MAX_CFG, TOY_PROMPT, TOY_SEGMENT, TOY_SIZE, bundled_workflow, inputs_of, with_toy_files

CFGS = (("WanRelay_OpeningLeg", "cfg"), ("WanRelay_Sample", "high_noise_cfg"), ("WanRelay_Sample", "low_noise_cfg"))
MORE_FILES = {"WanRelay_ApplyLoraPair": "LoRA files", "UpscaleModelLoader": "an upscaling model"}
EXAMPLE_IMAGE = ROOT / "tests" / "data" / "coffee.jpg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="the first frame; without it, a photograph of a coffee cup"
    )
    parser.add_argument("--end-image", type=Path, metavar="FILE", help="the last frame")
    parser.add_argument("--prompt", metavar="TEXT")
    parser.add_argument("--negative-prompt", metavar="TEXT")
    parser.add_argument("--width", type=number(16, 8192), metavar="W", help="pixels, a multiple of 16")
    parser.add_argument("--height", type=number(16, 8192), metavar="H", help="pixels, a multiple of 16")
    parser.add_argument("--length", type=number(1, 1025), metavar="N", help="frames, 4n+1")
    parser.add_argument("--steps", type=number(1, 200), metavar="N")
    parser.add_argument("--seed", type=number(0, 2**64 - 1), metavar="N")
    parser.add_argument("--fps", type=number(1, 480, float), metavar="N")
    parser.add_argument("--workflow", default="wan22_i2v_4step", metavar="NAME", help="one of workflows/api")
    parser.add_argument("--out", type=Path, default=Path("wan_relay_demo.mp4"), metavar="FILE")
    for name in ("--high", "--low", "--vae", "--text-encoder"):
        parser.add_argument(name, type=Path, metavar="FILE", help="a real model file; without any, the toy family")


def check_files(options: argparse.Namespace) -> None:
    """Raises DevError for a file that is not there, and for an --out that cannot be written."""
    for path in (options.image, options.end_image, options.high, options.low, options.vae, options.text_encoder):
        if path and not path.is_file():
            raise DevError(f"{path}: there is no such file.")
    if options.out.suffix.lower() != ".mp4" or options.out.is_dir():
        raise DevError(f"--out: expected the name of an .mp4 file, got {options.out}.")
    if not os.access(options.out.resolve().parent, os.W_OK):
        raise DevError(f"--out: {options.out.resolve().parent} is not a folder that can be written to.")


def demo_workflow(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Path], dict[str, Path] | None]:
    """The bundled workflow as the options want it, {LoadImage title: image}, and its models (None: the toy family)."""
    workflow = bundled_workflow(options.workflow)
    images = demo_images(workflow, options)
    real = options.high or options.low or options.vae or options.text_encoder
    models = use_real_files(workflow, options) if real else None
    if not real:
        workflow = with_toy_files(workflow)
        inputs_of(workflow, "WanRelay_PrepareLatent").update(TOY_SIZE, sizing="match image" if images else "fixed")
        inputs_of(workflow, "WanRelay_EncodePrompts")["prompt"] = TOY_PROMPT
        if long_video := inputs_of(workflow, "WanRelay_LongVideo"):
            long_video["segment_length"] = TOY_SEGMENT
            inputs_of(workflow, "WanRelay_PrepareLatent")["length"] = 2 * TOY_SEGMENT - long_video["overlap"]
        for class_type, name in CFGS:
            inputs = inputs_of(workflow, class_type)
            if inputs.get(name, 0.0) > TOY_MAX_CFG:
                say(f"The toy family needs less guidance than the real one: {name} is {TOY_MAX_CFG:g}.")
                inputs[name] = TOY_MAX_CFG
    interpolates = inputs_of(workflow, "WanRelay_InterpolateFrames")
    for class_type, names in {
        "WanRelay_EncodePrompts": ["prompt", "negative_prompt"],
        "WanRelay_PrepareLatent": ["width", "height", "length"],
        "WanRelay_Sample": ["steps", "seed"],
        "WanRelay_InterpolateFrames" if interpolates else "WanRelay_SaveVideo": ["fps"],
    }.items():
        given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        inputs_of(workflow, class_type).update(given)
        if "width" in given or "height" in given:
            inputs_of(workflow, class_type)["sizing"] = "fixed"
        if "steps" in given:  # distilled pairs are split by step, half and half
            inputs_of(workflow, class_type)["switch_step"] = max(1, given["steps"] // 2)
    return workflow, images, models


def demo_images(workflow: dict[str, Any], options: argparse.Namespace) -> dict[str, Path]:
    """{LoadImage title: file}. Adds an "End image" where one is given and the workflow has none."""
    latent = inputs_of(workflow, "WanRelay_PrepareLatent")
    if "start_image" not in latent:
        if options.image or options.end_image:
            raise DevError(f"--image: {options.workflow} makes a video from text alone and takes no image.")
        return {}
    start = options.image or EXAMPLE_IMAGE
    if options.end_image and "end_image" not in latent:
        workflow["end"] = {"class_type": "LoadImage", "inputs": {}, "_meta": {"title": "End image"}}
        latent["end_image"] = ["end", 0]
    return {"Start image": start} | ({"End image": options.end_image or start} if "end_image" in latent else {})


def use_real_files(workflow: dict[str, Any], options: argparse.Namespace) -> dict[str, Path]:
    """Put the names of the given files into the workflow; gives {path below models/: file}."""
    experts = inputs_of(workflow, "WanRelay_LoadExperts")
    needs_low = experts["low_noise"] != "none"
    if not (options.high and options.vae and options.text_encoder) or needs_low != bool(options.low):
        expected = "--high, --low, --vae and --text-encoder" if needs_low else "--high, --vae, --text-encoder, no --low"
        raise DevError(f"Real model files for {options.workflow}: expected {expected}, all together.")
    for class_type, kind in MORE_FILES.items():
        if inputs_of(workflow, class_type):
            raise DevError(f"{options.workflow} needs {kind} as well, which the demo does not take.")
    models = {}
    for inputs, key, folder, path in [
        (experts, "high_noise", "diffusion_models", options.high),
        (experts, "low_noise", "diffusion_models", options.low),
        (inputs_of(workflow, "VAELoader"), "vae_name", "vae", options.vae),
        (inputs_of(workflow, "WanRelay_EncodePrompts"), "text_encoder", "text_encoders", options.text_encoder),
    ]:
        if path:
            inputs[key] = path.name
            models[f"{folder}/{path.name}"] = path
    return models
