"""The worker as a child process, under the real SDK loop: started, watched, and replaced."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from ..child_process import end_child, start_child
from ..worker.comfyui.process import pack_folder
from .jobs import Jobs

ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """One worker: the handler's module under the real SDK loop."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "service.worker.handler"]
        self._process = start_child(command, stdin=subprocess.DEVNULL, cwd=ROOT, env=self._environment)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, grace_s: float = 5.0) -> None:
        if self._process is not None:
            end_child(self._process, grace_s)

    async def supervise(self, jobs: Jobs) -> None:
        """Starts the worker again when it ended, or asked to be replaced."""
        while True:
            self.start()
            fresh = asyncio.create_task(jobs.wants_fresh_worker.wait())
            while self.is_running and not fresh.done():
                await asyncio.wait([fresh], timeout=0.2)
            fresh.cancel()
            jobs.wants_fresh_worker.clear()
            await asyncio.to_thread(self.stop, 1.0)
            await jobs.worker_gone()
            await asyncio.sleep(0.5)


def worker_environment(sdk_url: str, folder: Path) -> dict[str, str]:
    """The worker's variables: the platform's own, and those of a development machine where none is set."""
    pack = pack_folder(folder / "base")
    pack.parent.mkdir(parents=True)
    pack.symlink_to(ROOT)
    own = {
        "RUNPOD_POD_ID": "local-worker",
        "RUNPOD_AI_API_KEY": "local",
        "RUNPOD_WEBHOOK_GET_JOB": f"{sdk_url}/job-take/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{sdk_url}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{sdk_url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_PING": f"{sdk_url}/ping/$RUNPOD_POD_ID",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    defaults = {
        "COMFYUI_PYTHON": sys.executable,
        "COMFYUI_PORT": "0",
        "COMFYUI_BASE": str(folder / "base"),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_VOLUME": str(folder / "volume"),
        "WAN_RELAY_PROMPT_CACHE": str(folder / "prompts"),
        "PYTHONUNBUFFERED": "1",
    }
    toy = {}
    if "WAN_RELAY_TOY_MODELS" in os.environ:
        toy = {"WAN_RELAY_MODELS": os.environ["WAN_RELAY_TOY_MODELS"], "COMFYUI_ARGS": "--cpu"}
    return defaults | toy | dict(os.environ) | own


def own_url(host: str, port: int) -> str:
    """How this machine reaches the address that was bound."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
