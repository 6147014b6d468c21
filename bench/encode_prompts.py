"""What a repeated prompt pair costs in a fresh process: `python3 dev.py bench encode_prompts`.

Three ways to turn a prompt and a negative prompt into conditioning, each in processes of its own:

- core     ComfyUI's CLIPLoader and two CLIPTextEncode
- new      WanRelay_EncodePrompts with an empty prompt cache
- repeat   WanRelay_EncodePrompts with prompts that another process encoded before

The encoder is a random UMT5 in the real file layout, smaller than the real one (which has 6.7 GB), so the gain here
is a lower bound: `repeat` does not depend on the encoder's size. Seconds are the nodes' own, without starting Python
and importing ComfyUI; memory is the process's peak over what it held after the imports. Rounds run the three ways one
after another; a ratio is the median of the rounds' ratios. Needs Linux: the peak comes from /proc.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import safetensors.torch
import torch

import nodes

from ..nodes.encode_prompts import EncodePrompts
from ..toy import layout
from ..toy.sizes import TextSize
from ..toy.tokenizer import TOKENIZER_FILE
from . import forget_peak, in_fresh_process, memory_mb

ENCODER = "random_umt5.safetensors"
SIZE = TextSize(d_model=512, d_ff=1280, d_kv=64, num_heads=8, num_layers=23, vocab_size=256384)
CONFIG = {name: getattr(SIZE, name) for name in ("d_model", "d_ff", "d_kv", "num_heads", "num_layers", "vocab_size")}
PROMPT = "a lighthouse on a cliff at dusk, waves break below, the camera rises slowly, soft light, film grain"
NEGATIVE = "overexposed, static, blurred details, subtitles, worst quality, low quality, deformed limbs"
WAYS = ("core", "new", "repeat")


def write_encoder(path: Path) -> None:
    """A random encoder of `SIZE` in half precision."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator).mul_(0.02).half()
        for name, shape in layout.text_encoder(SIZE).items()
    }
    tensors["spiece_model"] = torch.frombuffer(bytearray(TOKENIZER_FILE.read_bytes()), dtype=torch.uint8)
    safetensors.torch.save_file(tensors, path, {"config": json.dumps({"text_encoder": CONFIG})})


def core_way() -> list[Any]:
    """Core's two nodes. CLIPLoader cannot be told an encoder's sizes, so its call of load_clip is given them here."""
    load_clip = comfy.sd.load_clip
    options = {"umt5xxl_model_config": CONFIG}

    def load_with_sizes(*args: Any, **named: Any) -> comfy.sd.CLIP:
        named["model_options"] = {**named.get("model_options", {}), **options}
        return load_clip(*args, **named)

    comfy.sd.load_clip = load_with_sizes
    (clip,) = nodes.CLIPLoader().load_clip(ENCODER, type="wan")
    return [nodes.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, NEGATIVE)]


def our_way() -> list[Any]:
    return list(EncodePrompts.execute(ENCODER, PROMPT, NEGATIVE).args)


def measure(way: Callable[[], list[Any]], folder: Path) -> None:
    """Runs `way` in this process and prints its seconds, extra peak memory and a checksum of its result."""
    folder_paths.folder_names_and_paths["text_encoders"] = ([str(folder)], {".safetensors"})
    before = forget_peak()
    started = time.perf_counter()
    with torch.inference_mode():
        found = way()
    seconds = time.perf_counter() - started
    checksum = [float(conditioning[0][0].double().abs().sum()) for conditioning in found]
    print(json.dumps({"seconds": seconds, "peak_mb": memory_mb("VmHWM") - before, "checksum": checksum}))


def compare(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoder(folder / ENCODER)
        results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for index in range(rounds):
            for way in WAYS:
                cache = {"WAN_RELAY_PROMPT_CACHE": folder / f"prompts_{index}"}
                results[way].append(in_fresh_process("encode_prompts", "--way", way, "--folder", folder, **cache))
        megabytes = (folder / ENCODER).stat().st_size / 1e6
    checksums = {tuple(result["checksum"]) for way in WAYS for result in results[way]}
    print(f"Text encoder of {megabytes:.0f} MB, on the CPU, {rounds} rounds, median")
    print(f"{'way':8}{'seconds':>10}{'of core':>10}{'peak MB':>10}{'of core':>10}")
    for way in WAYS:
        line = f"{way:8}"
        for figure in ("seconds", "peak_mb"):
            values = [result[figure] for result in results[way]]
            ratios = [value / core[figure] for value, core in zip(values, results["core"], strict=True)]
            line += f"{statistics.median(values):>10.3f}{statistics.median(ratios):>10.4f}"
        print(line)
    print(f"All results are the same: {len(checksums) == 1}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(core_way if options.way == "core" else our_way, options.folder)
    else:
        compare(options.rounds)


if __name__ == "__main__":
    main()
