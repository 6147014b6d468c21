"""A worker over a fake ComfyUI that fails at chosen points, in a folder of its own."""

import asyncio
import base64
import io
import json
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from PIL import Image
from wan_relay.service.worker.job import Worker
from wan_relay.service.worker.settings import Settings

FAKE_COMFYUI = Path(__file__).parent / "fake_comfyui"


def png(size: tuple[int, int] = (48, 48)) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(out, "PNG")
    return out.getvalue()


def make_mp4(frames: int = 5, size: int = 64, noise: int = 0, seed: int = 1) -> bytes:
    """A real h264 file; `noise` up to 255 makes it large."""
    random = np.random.default_rng(seed)
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "preset": "ultrafast"}
        for index in range(frames):
            picture = np.full((size, size, 3), index * 10, np.uint8)
            picture += random.integers(0, noise + 1, picture.shape, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


# Once with a bundled workflow, once with the same as a client's own.
BOTH_FORMS = pytest.mark.parametrize("make_bench", ["bundled", "graph"], indirect=True)


@dataclass
class Bench:
    """A worker, its folder, and what the fake ComfyUI is to do."""

    folder: Path
    settings: Settings
    worker: Worker
    progress: list[dict[str, Any]]
    form: str = "bundled"

    @property
    def run_folder(self) -> Path:
        return self.settings.run_directory

    def configure(self, **config: Any) -> None:
        path = self.run_folder / "fake.json"
        now = json.loads(path.read_text()) if path.exists() else {"video": str(self.folder / "video.mp4")}
        path.write_text(json.dumps(now | config))

    def asked(self, kind: str) -> list[list[Any]]:
        """What the worker asked the fake ComfyUI for."""
        log = self.run_folder / "log.json"
        return [entry for entry in (json.loads(log.read_text()) if log.exists() else []) if entry[0] == kind]

    def noted(self, kind: str) -> list[list[Any]]:
        """The calls of one kind, such as "POST /prompt", that came to the fake ComfyUI; see there for other kinds."""
        lines = (self.run_folder / "calls.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry[0] == kind]

    def graphs(self) -> list[dict[str, Any]]:
        """Those that were queued."""
        return [entry[2] for entry in self.noted("prompt")]

    def boot(self) -> None:
        """ComfyUI is up: a short budget is not spent on its start."""
        self.play(self.worker.process.wait_ready())

    def is_stopped(self) -> bool:
        """Whether the fake ComfyUI was frozen by SIGSTOP."""
        pid = self.worker.process.pid
        return pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED

    def job(self, job_id: str = "sync-1", **fields: Any) -> dict[str, Any]:
        """For a bundled workflow, or, on a bench of that form, with the same as an exported graph."""
        if self.form == "graph":
            return self.graph_job(job_id, **fields)
        image = base64.b64encode(png()).decode()
        return {"id": job_id, "input": {"prompt": "a cat", "image_base64": image, "width": 64, "height": 64, **fields}}

    def graph_job(self, job_id: str = "sync-1", **fields: Any) -> dict[str, Any]:
        graph = json.loads((self.settings.workflows / "wan22_i2v_4step.json").read_text())
        graph["5"]["inputs"] |= {"width": 64, "height": 64}
        images = [{"name": "example.png", "image": base64.b64encode(png()).decode()}]
        return {"id": job_id, "input": {"workflow": graph, "images": images, **fields}}

    def left_files(self) -> list[str]:
        """Files of jobs that are still there."""
        folders = (self.settings.input_directory, self.settings.output_directory)
        return sorted(str(path) for folder in folders for path in folder.rglob("*"))

    def play(self, work: Coroutine[Any, Any, Any], timeout_s: float = 60) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(work, timeout_s)

        return asyncio.run(bounded())

    def answer(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        """The answers to jobs that come one after the other."""

        async def all_of_them() -> list[dict[str, Any]]:
            return [await self.worker.answer(job) for job in jobs]

        answers: list[dict[str, Any]] = self.play(all_of_them())
        return answers


@pytest.fixture
def make_bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Its parameter is the form of the bench's jobs; see `BOTH_FORMS`."""
    benches: list[Bench] = []

    def make(**variables: Any) -> Bench:
        folder = tmp_path / f"bench{len(benches)}"
        (folder / "run" / "output").mkdir(parents=True)
        (folder / "video.mp4").write_bytes(make_mp4())
        defaults = {
            "COMFYUI_PATH": FAKE_COMFYUI,
            "COMFYUI_PYTHON": sys.executable,
            "COMFYUI_PORT": 0,
            "COMFYUI_BASE": folder / "base",
            "WAN_RELAY_RUN_DIR": folder / "run",
            "WAN_RELAY_VOLUME": folder / "volume",
            "WAN_RELAY_JOB_TIMEOUT_S": 50,
            "WAN_RELAY_MIN_FREE_DISK_MB": 1,
        }
        settings = Settings.from_environment({name: str(value) for name, value in (defaults | variables).items()})
        progress: list[dict[str, Any]] = []
        bench = Bench(folder, settings, Worker(settings, lambda _, update: progress.append(update)), progress)
        bench.form = getattr(request, "param", "bundled")
        bench.configure()
        benches.append(bench)
        return bench

    try:
        yield make
    finally:
        for bench in benches:
            bench.worker.stop()


@pytest.fixture
def bench(make_bench: Any) -> Bench:
    made: Bench = make_bench()
    return made
