"""What reading ahead saves on a slow disk: `python3 dev.py bench read_ahead`, as root, where disks can be throttled.

Each run starts a worker, waits until ComfyUI answers, and then copies every tensor of two experts, as a first job
does. The experts are dropped from the page cache before; Python and ComfyUI are in it, as a container's image is.
Reads of the disk share RATE_MB_S (cgroup v1, blkio), whoever reads. Runs with reading ahead and without take turns.

- loaded      seconds from the start until both experts were copied
- boot        of them, until ComfyUI answered
- read alone  the same files read in order, by one thread that does nothing else

The disk rests no longer than ComfyUI boots, so a busy machine, where that takes long, flatters the ratio: look at the
seconds. What else can be read meanwhile is not in it: the low-noise expert while the other one samples.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from ..service.worker.job import Worker
from ..service.worker.settings import Settings
from ..toy import layout
from ..toy.sizes import ExpertSize
from .worker import drop_from_page_cache, environment

RATE_MB_S = 300
NUM_LAYERS = 30
EXPERTS = [f"toy_wan2.2_i2v_{expert}_noise_4step.safetensors" for expert in ("high", "low")]
BLKIO = Path("/sys/fs/cgroup/blkio")


def write_expert(path: Path, num_layers: int) -> None:
    """A tensor at a time, so that it takes no memory; every block has the same random weights."""
    shapes = layout.expert(ExpertSize(in_dim=36, out_dim=16, dim=2048, ffn_dim=8192, num_layers=num_layers))
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    weights = os.urandom(max(2 * torch.Size(shape).numel() for shape in shapes.values()))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for shape in shapes.values():
            file.write(memoryview(weights)[: 2 * torch.Size(shape).numel()])
        os.fsync(file.fileno())


@contextlib.contextmanager
def throttled(folder: Path, rate_mb_s: int) -> Iterator[None]:
    """This process and what it starts share a limit for reads from the folder's disk.

    Raises SystemExit, which is no failure, where this machine has no such thing or forbids it.
    """
    number = folder.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if (device / "partition").exists():
        device = device.parent
    group = BLKIO / f"wan_relay_bench_{os.getpid()}"
    try:
        own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":blkio:" in line)
        limit = f"{(device / 'dev').read_text().strip()} {rate_mb_s * 1_000_000}"
        group.mkdir()
    except (OSError, StopIteration) as error:
        print(f"The disk of {folder} cannot be throttled here, so nothing is measured: {error!r}")
        raise SystemExit(0) from None
    before = BLKIO / own.rpartition(":")[2].lstrip("/") / "cgroup.procs"
    try:
        (group / "blkio.throttle.read_bps_device").write_text(limit)
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        for process in (group / "cgroup.procs").read_text().split():
            before.write_text(process)
        group.rmdir()


def read(paths: list[Path]) -> None:
    buffer = bytearray(16 * 1024 * 1024)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def copy_tensors(paths: list[Path]) -> None:
    for path in paths:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name).clone()


async def boot_and_load(settings: Settings, experts: list[Path]) -> tuple[float, float]:
    """(seconds until ComfyUI answers, seconds until the experts are loaded too)."""
    worker = Worker(settings, lambda _, __: None)
    try:
        started = time.perf_counter()
        worker.start()
        await worker.process.wait_ready()
        booted = time.perf_counter()
        await asyncio.to_thread(copy_tensors, experts)
        return booted - started, time.perf_counter() - started
    finally:
        worker.stop()


def compare(variables: dict[str, str], experts: list[Path], num_rounds: int) -> None:
    rounds: list[dict[str, float]] = []
    for index in range(num_rounds + 1):
        measured: dict[str, float] = {}
        for way in ("with", "without") if index % 2 else ("without", "with"):
            drop_from_page_cache(experts[0].parent)
            settings = Settings.from_environment(variables | {"WAN_RELAY_READ_AHEAD": "1" if way == "with" else "0"})
            measured[f"boot {way}"], measured[way] = asyncio.run(boot_and_load(settings, experts))
        drop_from_page_cache(experts[0].parent)
        started = time.perf_counter()
        read(experts)
        measured["read"] = time.perf_counter() - started
        print("  ".join(f"{name} {seconds:.1f} s" for name, seconds in measured.items()), flush=True)
        rounds.append(measured)
    rounds = rounds[1:]  # the first fills the page cache with ComfyUI and Python
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    ratio = statistics.median(each["with"] / each["without"] for each in rounds)
    print(f"{'':<12}{'reading ahead':>16}{'without':>10}{'ratio':>8}{'read alone':>14}")
    print(f"{'loaded':<12}{middle['with']:>14.1f} s{middle['without']:>8.1f} s{ratio:>8.2f}{middle['read']:>12.1f} s")
    print(f"{'boot':<12}{middle['boot with']:>14.1f} s{middle['boot without']:>8.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.read_ahead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=RATE_MB_S, help="MB/s")
    parser.add_argument("--layers", type=int, default=NUM_LAYERS, help="of an expert, 134 MB each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wan_relay_bench_") as name, throttled(Path(name), options.rate):
        models = Path(name) / "models"
        (models / "diffusion_models").mkdir(parents=True)
        experts = [models / "diffusion_models" / name for name in EXPERTS]
        size = options.layers * 134e6
        if shutil.disk_usage(name).free < 3 * size:
            raise SystemExit(f"The benchmark needs {2 * size / 1e9:.1f} GB in {name}; set TMPDIR.")
        for path in experts:
            write_expert(path, options.layers)
        print(f"two experts of {experts[0].stat().st_size / 1e9:.1f} GB, {options.rate} MB/s, {options.rounds} rounds")
        compare(environment(Path(name), models), experts, options.rounds)


if __name__ == "__main__":
    main()
