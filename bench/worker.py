"""What the RunPod worker adds to a job, and how soon it is up: `python3 dev.py bench worker`.

- overhead   a job from request to answer, less the time that ComfyUI itself reports for the run; a small and a large
             result of the toy family, median of 30. Beside it a handler written the usual way, median of 11: history
             asked for once a second, file read, base64. The target is 60 ms plus 12 ms for each MB of result.
- boot       ComfyUI as the worker starts it against a plain start of the same ComfyUI with the same pack, in turns.
             The target is a ratio of 0.75.
- first      seconds from `worker/start.sh` to the first video, through the real SDK loop, with the files of ComfyUI and
             the models dropped from the page cache before, and with them in it; beside it a plain start that is asked
             once a second whether it is up, and the usual handler. One run each.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import requests
from aiohttp import ClientSession, web
from PIL import Image

from ..service.contract.video_request import parse_request
from ..service.local_runpod.endpoint import Endpoint
from ..service.local_runpod.jobs import Limits
from ..service.worker import video_job
from ..service.worker.comfyui.client import Run
from ..service.worker.job import Worker
from ..service.worker.settings import Settings
from ..service.worker.workflow import build_plan
from ..tools.toy_workflows import TOY_FILES
from ..toy.family import ensure_family

ROOT = Path(__file__).resolve().parents[1]
JOBS = 30
USUAL_JOBS = 11
BOOTS = 3
LIMIT_S = 300


def environment(folder: Path, models: Path) -> dict[str, str]:
    pack = folder / "base" / "custom_nodes" / "ComfyUI-WanRelay"
    if not pack.exists():
        pack.parent.mkdir(parents=True)
        pack.symlink_to(ROOT)
    return {
        "COMFYUI_PATH": os.environ["COMFYUI_PATH"],
        "COMFYUI_PYTHON": sys.executable,
        "COMFYUI_PORT": "0",
        "COMFYUI_ARGS": "--cpu",
        "COMFYUI_BASE": str(folder / "base"),
        "HANDLER_PYTHON": sys.executable,
        "WAN_RELAY_MODELS": str(models),
        "WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_PROMPT_CACHE": str(folder / "prompts"),
    }


def noise_image(side: int) -> str:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


SMALL = {"width": 64, "height": 64, "length": 5}
LARGE = {"width": 160, "height": 160, "length": 9, "crf": 0}


def fields(size: dict[str, int], seed: int) -> dict[str, Any]:
    return {"prompt": "a cat", "image_base64": noise_image(size["width"]), "seed": seed, **size}


# --- overhead ---


def own_seconds(entry: dict[str, Any]) -> float:
    """ComfyUI's time from the start of the execution to its end, by its own messages."""
    times = {kind: data["timestamp"] for kind, data in entry["status"]["messages"]}
    return float(times["execution_success"] - times["execution_start"]) / 1000


class TimedRun(Run):
    """Keeps ComfyUI's own time of each run."""

    own: ClassVar[list[float]] = []

    async def finish(self) -> dict[str, Any]:
        entry = await super().finish()
        self.own.append(own_seconds(entry))
        return entry


async def our_overheads(worker: Worker, size: dict[str, int], count: int) -> tuple[list[float], int]:
    """(milliseconds per job, bytes of the result). Seeds repeat, so that sampling comes from ComfyUI's cache."""
    overheads, length = [], 0
    for index in range(count + 1):
        TimedRun.own.clear()
        started = time.perf_counter()
        answer = await worker.answer({"id": f"sync-{index}", "input": fields(size, seed=1)})
        body = json.dumps({"output": answer})
        taken = time.perf_counter() - started
        if "video" not in answer:
            raise RuntimeError(body[:300])
        if index:
            overheads.append((taken - TimedRun.own[0]) * 1000)
        length = len(body)
    return overheads, length


def usual_job(url: str, settings: Settings, size: dict[str, int], seed: int) -> float:
    """The usual handler's milliseconds beyond ComfyUI's own time."""
    started = time.perf_counter()
    sent = fields(size, seed)
    name = f"{uuid.uuid4().hex}.png"
    (settings.input_directory / name).write_bytes(base64.b64decode(sent["image_base64"]))
    request, _ = parse_request(sent)
    graph = build_plan(request, seed, name, None, f"usual_{uuid.uuid4().hex}", settings).graph
    body: dict[str, Any] = {"prompt": graph, "client_id": uuid.uuid4().hex}
    prompt_id = requests.post(f"{url}/prompt", json=body, timeout=30).json()["prompt_id"]
    time.sleep(random.random())  # its polls fall anywhere around the end of a job
    while prompt_id not in (history := requests.get(f"{url}/history/{prompt_id}", timeout=30).json()):
        time.sleep(1)
    entry = history[prompt_id]
    items = [item for node in entry["outputs"].values() for item in node.get("images", ())]
    path = settings.output_directory / items[0]["subfolder"] / items[0]["filename"]
    json.dumps({"output": {"video": base64.b64encode(path.read_bytes()).decode()}})
    taken = time.perf_counter() - started
    path.unlink()
    (settings.input_directory / name).unlink()
    return (taken - own_seconds(entry)) * 1000


async def bench_overhead(variables: dict[str, str], jobs: int) -> None:
    settings = Settings.from_environment(variables)
    worker = Worker(settings, lambda _, __: None)
    video_job.Run = TimedRun  # type: ignore[misc]
    try:
        worker.start()
        await worker.answer({"id": "ping", "input": {"action": "ping"}})
        print(f"{'overhead of a job':<24}{'result':>10}{'ours':>12}{'target':>12}{'usual':>12}{'ours/usual':>12}")
        for name, size in (("small", SMALL), ("large", LARGE)):
            ours, length = await our_overheads(worker, size, jobs)
            usual = [usual_job(worker.process.url, settings, size, 1) for _ in range(USUAL_JOBS)]
            mine, theirs, target = statistics.median(ours), statistics.median(usual), 60 + 12 * length / 1e6
            numbers = f"{length / 1e6:>7.2f} MB{mine:>9.0f} ms{target:>9.0f} ms{theirs:>9.0f} ms{mine / theirs:>12.2f}"
            print(f"{name:<24}{numbers}")
    finally:
        worker.stop()


# --- boot ---


def plain_command(folder: Path, port: int, models: Path) -> list[str]:
    command = [sys.executable, "-u", os.path.join(os.environ["COMFYUI_PATH"], "main.py"), "--cpu", "--port", str(port)]
    return [*command, "--base-directory", str(folder / "base"), "--models-directory", str(models)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Plain:
    """A plain start of ComfyUI, with the pack."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = plain_command(folder, self.port, models)
        self._log = folder / "plain.log"

    def __enter__(self) -> "Plain":
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def wait(self, pause_s: float) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.get(f"{self.url}/prompt", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(pause_s)
        raise RuntimeError(self._log.read_text(errors="replace")[-2000:])


async def bench_boot(folder: Path, variables: dict[str, str], models: Path, boots: int) -> None:
    settings = Settings.from_environment(variables | {"WAN_RELAY_READ_AHEAD": "0"})
    ours, plain = [], []
    for index in range(boots + 1):
        started = time.perf_counter()
        with Plain(folder, models) as comfyui:
            comfyui.wait(0.05)
            plain.append(time.perf_counter() - started)
        worker = Worker(settings, lambda _, __: None)
        try:
            started = time.perf_counter()
            worker.process.start()
            await worker.process.wait_ready()
            ours.append(time.perf_counter() - started)
        finally:
            worker.stop()
        if not index:  # the first round only warms the page cache
            ours.clear()
            plain.clear()
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, plain, strict=True))
    print(f"{'boot of ComfyUI':<24}{'ours':>12}{'plain':>12}{'ratio':>10}{'target':>10}")
    print(f"{'':<24}{statistics.median(ours):>10.1f} s{statistics.median(plain):>10.1f} s{ratio:>10.2f}{0.75:>10.2f}")


# --- from the start to the first answer ---


def drop_from_page_cache(*folders: Path) -> None:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def start_sh_first_answer(folder: Path, variables: dict[str, str]) -> float:
    endpoint = Endpoint(Limits())
    runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    process = None
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        platform = {
            "RUNPOD_POD_ID": "bench",
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}{endpoint.sdk_path}/job-take/$ID?gpu=bench",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}{endpoint.sdk_path}/job-done/$RUNPOD_POD_ID/$ID?gpu=bench",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }
        started = time.perf_counter()
        with (folder / "start.log").open("wb") as out:
            process = subprocess.Popen(
                ["bash", ROOT / "service" / "worker" / "start.sh"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | variables | platform,
                start_new_session=True,
            )
        async with ClientSession() as session, asyncio.timeout(LIMIT_S):
            body = {"input": fields(SMALL, seed=int(started))}
            async with session.post(f"{base}/v2/local/runsync?wait=300000", json=body) as response:
                answer = await response.json()
        if answer["status"] != "COMPLETED":
            raise RuntimeError(json.dumps(answer)[:300])
        return time.perf_counter() - started
    finally:
        await endpoint.jobs.close()
        if process is not None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)
        await runner.cleanup()


async def usual_first_answer(folder: Path, variables: dict[str, str], models: Path) -> float:
    base = folder / "base"
    settings = Settings.from_environment(variables | {"WAN_RELAY_RUN_DIR": str(base)})
    started = time.perf_counter()
    with Plain(folder, models) as comfyui:
        await asyncio.to_thread(comfyui.wait, 1.0)
        await asyncio.to_thread(usual_job, comfyui.url, settings, SMALL, int(started))
        return time.perf_counter() - started


async def bench_first_answer(folder: Path, variables: dict[str, str], models: Path) -> None:
    print(f"{'start to first video':<24}{'ours':>12}{'usual':>12}{'ratio':>10}")
    site = Path(np.__file__).resolve().parents[1]
    for name in ("cold", "warm"):
        seconds = []
        ways: tuple[Callable[[], Coroutine[Any, Any, float]], ...] = (
            lambda: start_sh_first_answer(folder, variables),
            lambda: usual_first_answer(folder, variables, models),
        )
        for way in ways:
            shutil.rmtree(folder / "prompts", ignore_errors=True)
            if name == "cold":
                drop_from_page_cache(models, site, Path(os.environ["COMFYUI_PATH"]))
            seconds.append(await way())
        print(f"{name:<24}{seconds[0]:>10.1f} s{seconds[1]:>10.1f} s{seconds[0] / seconds[1]:>10.2f}")


async def main(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="wan_relay_bench_"))
    try:
        models = Path(os.environ.get("WAN_RELAY_TOY_MODELS", folder / "models"))
        ensure_family(models)
        variables = environment(folder, models)
        if options.part in ("all", "overhead"):
            await bench_overhead(variables, options.jobs)
        if options.part in ("all", "boot"):
            await bench_boot(folder, variables, models, options.boots)
        if options.part in ("all", "first"):
            await bench_first_answer(folder, variables, models)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.worker", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("all", "overhead", "boot", "first"), default="all")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--boots", type=int, default=BOOTS)
    asyncio.run(main(parser.parse_args()))
