"""What the checks cost: a checked pair with a LoRA pair against ComfyUI's own four nodes: `dev.py bench load_pair`.

Both ways load the same two experts of 1.1 GB each (random fp16 weights) and put the same two rank-64 LoRAs on them:

- ours    Load Experts and Apply LoRA Pair, the checks of a queued job included
- core    two UNETLoader and two LoraLoaderModelOnly

Each way runs in a fresh process with the files already in the page cache, ours and core by turns; the ratios printed
are the medians of the rounds' ratios. Time is the wall clock and the processor time after all imports; memory is the
peak of the process over what it held after the imports. First comes the check alone, on a file of the real size (the
1095 tensors of the released experts, 14 GB of fp8, as a hole that takes no space on the disk). On a machine whose
processors are all busy with something else the wall clock is printed and not judged.
"""

import argparse
import importlib
import json
import os
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import folder_paths
import torch
from safetensors.torch import save_file

from ..nodes.apply_lora_pair import ApplyLoraPair
from ..nodes.load_experts import LoadExperts
from ..nodes.rules.files.expert_files import check_expert
from ..toy import layout
from ..toy.sizes import ExpertSize
from . import forget_peak, in_fresh_process, memory_mb

LARGE = ExpertSize(in_dim=36, out_dim=16, dim=1536, ffn_dim=8960, num_layers=12, num_heads=12, text_dim=4096)
REAL = ExpertSize(in_dim=36, out_dim=16, dim=5120, ffn_dim=13824, num_layers=40, num_heads=40, text_dim=4096)
RANK = 64
EXPERTS = ("bench_high_noise.safetensors", "bench_low_noise.safetensors")
LORAS = ("bench_lora_high_noise.safetensors", "bench_lora_low_noise.safetensors")
LIMIT = 1.05


def write_files(models: Path) -> None:
    for folder, names, shapes in (
        ("diffusion_models", EXPERTS, layout.expert(LARGE)),
        ("loras", LORAS, layout.lora(LARGE, RANK)),
    ):
        (models / folder).mkdir(parents=True)
        for seed, name in enumerate(names):
            generator = torch.Generator().manual_seed(seed)
            tensors = {key: (torch.randn(shape, generator=generator) * 0.02).half() for key, shape in shapes.items()}
            save_file(tensors, models / folder / name)


def use_folders(models: Path) -> None:
    for folder in ("diffusion_models", "loras", "checkpoints"):
        endings = folder_paths.folder_names_and_paths[folder][1]
        folder_paths.folder_names_and_paths[folder] = ([str(models / folder)], endings)


def load_ours() -> list[object]:
    assert LoadExperts.validate_inputs(*EXPERTS) is True
    loras = {"high_noise_lora": LORAS[0], "low_noise_lora": LORAS[1]}
    assert ApplyLoraPair.validate_inputs(**loras) is True
    high, low, _ = LoadExperts.execute(*EXPERTS, "default").args
    return list(ApplyLoraPair.execute(high, low, **loras).args[:2])


def load_core() -> list[object]:
    nodes = importlib.import_module("nodes")
    models = [nodes.UNETLoader().load_unet(name, "default")[0] for name in EXPERTS]
    loader = nodes.LoraLoaderModelOnly
    return [loader().load_lora_model_only(*pair, 1.0)[0] for pair in zip(models, LORAS, strict=True)]


WAYS: dict[str, Callable[[], list[object]]] = {"ours": load_ours, "core": load_core}


def measure_here(way: str, models: Path) -> None:
    """Load once in this process and print one line of JSON: seconds, processor seconds, peak MB."""
    importlib.import_module("nodes")
    use_folders(models)
    before = forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    loaded = WAYS[way]()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak_mb = memory_mb("VmHWM") - before
    assert len(loaded) == 2
    print(json.dumps({"seconds": wall, "processor seconds": processor, "peak MB": peak_mb}))


def compare(models: Path, num_rounds: int) -> bool:
    rounds: list[dict[str, dict[str, float]]] = []
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    in_fresh_process("load_pair", "--way", "core", "--models", models)  # fills the page cache
    for index in range(num_rounds):
        order = list(WAYS) if index % 2 else list(WAYS)[::-1]
        rounds.append({way: in_fresh_process("load_pair", "--way", way, "--models", models) for way in order})
    good = True
    print(f"{'':20}{'ours':>10}{'core':>10}{'ratio':>8}   rounds' ratios, limit {LIMIT}")
    for figure in rounds[0]["ours"]:
        ours, core = ([measured[way][figure] for measured in rounds] for way in ("ours", "core"))
        ratios = [mine / theirs for mine, theirs in zip(ours, core, strict=True)]
        ratio = statistics.median(ratios)
        judged = figure != "seconds" or not busy
        good &= ratio <= LIMIT or not judged
        each = " ".join(f"{one:.3f}" for one in sorted(ratios))
        print(
            f"{figure:20}{statistics.median(ours):10.3f}{statistics.median(core):10.3f}{ratio:8.3f}   {each}"
            + ("" if judged else "   (busy machine)")
        )
    return good


def time_the_check_alone(folder: Path) -> None:
    listing = layout.expert(REAL)
    header, end = {}, 0
    for name, shape in listing.items():
        size = 1 if len(shape) == 2 and name.startswith("blocks.") else 2
        begin, end = end, end + size * torch.Size(shape).numel()
        header[name] = {"dtype": "F8_E4M3" if size == 1 else "F16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    path = folder / "real_size_high_noise.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        facts = check_expert(path)
        seconds.append(time.perf_counter() - began)
    print(
        f"check of one file of {facts.bytes / 1e9:.1f} GB with {facts.num_tensors} tensors: "
        f"median {statistics.median(seconds) * 1000:.1f} ms, slowest {max(seconds) * 1000:.1f} ms, limit 50 ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        return measure_here(options.way, options.models)
    needed = 2.6e9
    if shutil.disk_usage(tempfile.gettempdir()).free < 2 * needed:
        raise SystemExit(f"The benchmark needs {needed / 1e9:.1f} GB in {tempfile.gettempdir()}; set TMPDIR.")
    with tempfile.TemporaryDirectory(prefix="wan_relay_bench_") as folder:
        time_the_check_alone(Path(folder))
        models = Path(folder) / "models"
        write_files(models)
        size = os.path.getsize(models / "diffusion_models" / EXPERTS[0])
        print(f"two experts of {size / 1e9:.2f} GB, two LoRAs of rank {RANK}, {options.rounds} rounds")
        good = compare(models, options.rounds)
    if not good:
        raise SystemExit(f"A ratio is above {LIMIT}.")


if __name__ == "__main__":
    main()
