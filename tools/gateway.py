"""`dev.py gateway`: the gateway and one executor, watched. Runs in the environment.

`local` is a ComfyUI of its own with the toy family; any other backend is a RunPod endpoint's URL. What is asked for and
made is kept in a folder of the user's cache, one for each port.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from .comfyui_server import has_gpu
from .environment import ROOT, Environment
from .processes import DevError, child, run_command, say
from .toy_workflows import TOY_FILES

START_S = 120.0
SHORT_LIFE_S = 30.0
LOCAL = "local"


class Part(NamedTuple):
    """One program of the deployment, and how a sentence names it."""

    name: str
    command: list[Any]
    variables: dict[str, str]


class Running:
    """A part as a process: started, listened to until it is ready, started again when it died."""

    def __init__(self, part: Part, stack: contextlib.ExitStack) -> None:
        self.part = part
        self._stack = stack
        self.start()

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.ready = threading.Event()
        self.word = ""
        self.process = self._stack.enter_context(
            child(self.part.command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | self.part.variables)
        )
        threading.Thread(target=self._listen, args=(self.process, self.ready), daemon=True).start()

    def _listen(self, process: subprocess.Popen[bytes], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("ready ") and not ready.is_set():
                self.word = text.removeprefix("ready ")
                ready.set()
            else:
                say(text)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.ready.wait(0.2):
            if self.process.poll() is not None:
                raise DevError(f"The {self.part.name} did not start (exit code {self.process.returncode}).")
            if time.monotonic() > deadline:
                raise DevError(f"The {self.part.name} was not ready within {START_S:.0f} seconds.")

    def watch(self) -> None:
        """Raises DevError where starting it again would not help."""
        if self.process.poll() is None:
            return
        code = self.process.returncode
        if time.monotonic() - self.started_at < SHORT_LIFE_S:
            raise DevError(f"The {self.part.name} stopped by itself (exit code {code}), and all ends with it.")
        say(f"The {self.part.name} stopped by itself (exit code {code}), and is started again.")
        self.start()


def serve(port: int, backend: str, is_full_size: bool, is_tls: bool) -> None:
    """Until a signal comes; leaves no process."""
    env = Environment.here()
    folder = env.models.parent / f"gateway-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        "WAN_RELAY_DATABASE": str(folder / "tasks.sqlite"),
        "WAN_RELAY_STORE": str(folder / "objects"),
        "WAN_RELAY_BACKEND": LOCAL if backend == LOCAL else "runpod",
        "WAN_RELAY_TOY_SIZE": "false" if is_full_size else "true",
        "PYTHONUNBUFFERED": "1",
    }
    gateway = gateway_part(env.python, port, shared, is_tls)
    if backend == LOCAL:
        executor = Part(
            "executor", [env.python, "-m", "service.executors.local"], shared | local_variables(env, folder)
        )
    else:
        variables = {"WAN_RELAY_RUNPOD_URL": backend, "WAN_RELAY_EXECUTOR_ID": f"runpod-{port}"}
        executor = Part("executor", [env.python, "-m", "service.executors.runpod"], shared | variables)
    with contextlib.ExitStack() as stack:
        parts = [Running(part, stack) for part in (gateway, executor)]
        for part in parts:
            part.wait_until_ready()
        print(f"ready {parts[0].word}", flush=True)
        while True:
            time.sleep(0.3)
            for part in parts:
                part.watch()


def gateway_part(python: Path, port: int, variables: dict[str, str], is_tls: bool) -> Part:
    tls = ["--tls"] if is_tls else []
    return Part("gateway", [python, "-m", "service.gateway", "--port", str(port), *tls], variables)


def local_variables(env: Environment, folder: Path) -> dict[str, str]:
    """What the worker's own code reads, for the toy family on this machine. What is set already counts."""
    pack = folder / "base" / "custom_nodes" / "ComfyUI-WanRelay"
    pack.parent.mkdir(parents=True, exist_ok=True)
    if pack.is_symlink():
        pack.unlink()
    pack.symlink_to(ROOT)
    own = {
        "COMFYUI_PYTHON": str(env.python),
        "COMFYUI_PORT": "0",
        "COMFYUI_ARGS": "" if has_gpu(env.python) else "--cpu",
        "COMFYUI_BASE": str(folder / "base"),
        "WAN_RELAY_MODELS": str(env.models),
        "WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_VOLUME": str(folder / "volume"),
        "WAN_RELAY_PROMPT_CACHE": str(folder / "prompts"),
        "WAN_RELAY_JOB_TIMEOUT_S": "3000",
    }
    return {name: os.environ.get(name, value) for name, value in own.items()}


if __name__ == "__main__":
    sys.exit(run_command(lambda: serve(int(sys.argv[1]), sys.argv[2], "full-size" in sys.argv, "tls" in sys.argv)))
