"""What putting two LoRAs on two loaded experts costs, against ComfyUI's own two nodes: `dev.py bench lora_pair`.

The experts have the real number of layers (40 blocks, 1095 tensors) and the LoRAs the real number of keys (1,200), both
at a small width, so that the time is what the nodes do and not what the disk gives:

- ours    Apply LoRA Pair, the check of a queued job included
- core    two LoraLoaderModelOnly

Both put the same two files on clones of the same two models, by turns in one process; the ratio printed is the median
of the rounds' ratios. On a machine whose processors are all busy with something else it is printed and not judged.
"""

import argparse
import importlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import torch
from safetensors.torch import save_file

from ..nodes.apply_lora_pair import ApplyLoraPair
from ..toy import layout
from ..toy.sizes import ExpertSize

SIZE = ExpertSize(in_dim=36, out_dim=16, dim=128, ffn_dim=256, num_layers=40, num_heads=1, text_dim=4096)
RANK = 8
LORAS = ("bench_lora_high_noise.safetensors", "bench_lora_low_noise.safetensors")
LIMIT = 1.1


def write_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    generator = torch.Generator().manual_seed(len(path.name))
    save_file({name: (torch.randn(shape, generator=generator) * 0.02).half() for name, shape in shapes.items()}, path)
    return path


def apply_ours(high: Any, low: Any) -> list[Any]:
    inputs = {"high_noise_lora": LORAS[0], "low_noise_lora": LORAS[1]}
    assert ApplyLoraPair.validate_inputs(**inputs) is True
    return list(ApplyLoraPair.execute(high, low, **inputs).args[:2])


def apply_core(high: Any, low: Any) -> list[Any]:
    loader = importlib.import_module("nodes").LoraLoaderModelOnly
    return [loader().load_lora_model_only(*pair, 1.0)[0] for pair in zip((high, low), LORAS, strict=True)]


def seconds(way: Any, models: list[Any]) -> float:
    began = time.perf_counter()
    patched = way(*models)
    spent = time.perf_counter() - began
    assert [len(model.patches) for model in patched] == [SIZE.num_layers * 10] * 2
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    importlib.import_module("nodes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder_paths.folder_names_and_paths["loras"] = ([str(folder)], {".safetensors"})
        shapes = layout.lora(SIZE, RANK)
        for lora in LORAS:
            write_tensors(folder / lora, shapes)
        expert = write_tensors(folder / "expert.safetensors", layout.expert(SIZE))
        models = [comfy.sd.load_diffusion_model(str(expert)) for _ in LORAS]
        rounds = []
        for index in range(options.rounds + 1):
            ways = (apply_ours, apply_core) if index % 2 else (apply_core, apply_ours)
            rounds.append({way: seconds(way, models) for way in ways})
    rounds = rounds[1:]  # the first one reads the files from the disk
    ours, core = ([measured[way] * 1000 for measured in rounds] for way in (apply_ours, apply_core))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, core, strict=True))
    print(
        f"two LoRAs of {len(shapes)} keys on two experts of {SIZE.num_layers} blocks, {options.rounds} rounds, median"
    )
    figures = f"ours {statistics.median(ours):.1f} ms, core {statistics.median(core):.1f} ms"
    print(f"{figures}, ratio {ratio:.2f}, limit {LIMIT}")
    if ratio > LIMIT and os.getloadavg()[0] <= (os.cpu_count() or 1):
        raise SystemExit(f"The ratio is above {LIMIT}.")


if __name__ == "__main__":
    main()
