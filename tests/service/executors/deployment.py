"""A whole deployment in one folder: the gateway's engine in the test's process, executors as processes of their own."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from PIL import Image
from wan_relay.service.gateway.engine import Engine
from wan_relay.service.store.open_store import open_store
from wan_relay.service.tasks.database import database_url
from wan_relay.service.tasks.names import LOCAL_QUEUE, RUNPOD_QUEUE
from wan_relay.service.tasks.task import Order, Task
from wan_relay.tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
FAKE_COMFYUI = ROOT / "tests" / "service" / "worker" / "fake_comfyui"
LIMIT_S = 150.0
T = TypeVar("T")


def png(size: tuple[int, int] = (48, 48)) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(out, "PNG")
    return out.getvalue()


class Process:
    """A program of the project's, whose log and children are known."""

    def __init__(self, folder: Path, module: str, variables: dict[str, Any], *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / f"log_{uuid.uuid4().hex[:6]}.txt"
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}, "TMPDIR": str(folder)}
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> str:
        """What it prints after `ready`."""

        def ready() -> str:
            assert self._process.poll() is None, self.said()
            return next((line.split()[1] for line in self.said().splitlines() if line.startswith("ready ")), "")

        return wait_until(ready)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(40)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


class Machine:
    """An executor and the fake ComfyUI that its tasks end up in: its own, or that of a RunPod endpoint."""

    module = "service.executors.local"
    platform: Process | None = None

    def __init__(self, folder: Path, video: Path, variables: dict[str, Any]) -> None:
        self.folder = folder
        self.run_folder = folder / "run"
        (self.run_folder / "output").mkdir(parents=True)
        self._video = video
        self.variables = variables
        self.executor: Process | None = None
        self.configure()

    @property
    def name(self) -> str:
        return str(self.variables["WAN_RELAY_EXECUTOR_ID"])

    def configure(self, **config: Any) -> None:
        """What its fake ComfyUI does from now on."""
        path = self.run_folder / "fake.json"
        path.write_text(json.dumps({"video": str(self._video), **config}))

    def start(self) -> "Machine":
        self.executor = Process(self.folder, self.module, self.variables)
        return self

    def ready(self) -> "Machine":
        assert self.executor is not None
        self.executor.wait_ready()
        return self

    def said(self) -> str:
        return self.executor.said() if self.executor else ""

    def wait_met(self, kind: str) -> None:
        """Until its fake ComfyUI has met the one fault that was configured."""
        wait_until(lambda: f'["{kind}", 0]' in (self.run_folder / "fake.json").read_text())

    def comfyui(self) -> int:
        """The process id of its fake ComfyUI."""
        return wait_until(lambda: next(iter(self._comfyuis()), 0))

    def release(self) -> None:
        """Lets a ComfyUI go on that stopped itself."""
        for pid in self._comfyuis():
            os.kill(pid, signal.SIGCONT)

    def _comfyuis(self) -> list[int]:
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = process.info["cmdline"] or []
            is_alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if is_alive and f"{self.run_folder}/output" in command and any("main.py" in part for part in command):
                found.append(process.pid)
        return found

    def prompts(self) -> int:
        """How many runs its fake ComfyUI was asked for."""
        calls = self.run_folder / "calls.jsonl"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return sum(json.loads(line)[0] == "prompt" for line in lines)

    def left_files(self) -> list[str]:
        """Files of jobs that are still in ComfyUI's folders."""
        folders = (self.run_folder / "input", self.run_folder / "output")
        return sorted(path.name for folder in folders for path in folder.rglob("*"))

    def end(self) -> None:
        if self.executor is not None:
            self.executor.end()


class RunpodMachine(Machine):
    """An executor for a RunPod endpoint: the project's local platform, with the real SDK loop and the worker."""

    module = "service.executors.runpod"

    def start(self) -> "Machine":
        if self.platform is None:
            arguments = ("--port", "0", "--api-key", "my-key")
            self.platform = Process(self.folder, "service.local_runpod", self.variables, *arguments)
        self.variables["WAN_RELAY_RUNPOD_URL"] = self.platform.wait_ready()
        return super().start()

    def said(self) -> str:
        return super().said() + (self.platform.said() if self.platform else "")

    def end(self) -> None:
        super().end()
        if self.platform is not None:
            self.platform.end()


MACHINES = {"local": (LOCAL_QUEUE, Machine), "runpod": (RUNPOD_QUEUE, RunpodMachine)}


class Deployment:
    """The engine, the store, and the machines that were added."""

    def __init__(self, folder: Path, kind: str = "local", database: str = "") -> None:
        queue, self._make = MACHINES[kind]
        self.kind = kind
        self.folder = folder
        self.database = database or str(folder / "tasks.sqlite")
        self.objects = folder / "objects"
        self.video = folder / "video.mp4"
        self.video.write_bytes(b"\x00\x00\x00\x20ftypisom" + os.urandom(20_000))
        self.store = open_store(str(self.objects))
        self.machines: list[Machine] = []
        self._loop = asyncio.new_event_loop()
        self.engine = Engine(database_url(self.database), "gateway", queue)
        self.engine.launch()

    def play(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(work, LIMIT_S))

    @property
    def variables(self) -> dict[str, Any]:
        return {"WAN_RELAY_DATABASE": self.database, "WAN_RELAY_STORE": self.objects}

    def machine(self, **variables: Any) -> Machine:
        """A new one, not started."""
        folder = self.folder / f"machine{len(self.machines)}"
        own = {
            **self.variables,
            "WAN_RELAY_EXECUTOR_ID": folder.name,
            "COMFYUI_PATH": FAKE_COMFYUI,
            "COMFYUI_PYTHON": sys.executable,
            "COMFYUI_PORT": 0,
            "COMFYUI_BASE": folder / "base",
            "WAN_RELAY_RUN_DIR": folder / "run",
            "WAN_RELAY_VOLUME": folder / "volume",
            "WAN_RELAY_JOB_TIMEOUT_S": 60,
            "WAN_RELAY_MIN_FREE_DISK_MB": 1,
            "WAN_RELAY_RUNPOD_KEY": "my-key",
        }
        machine = self._make(folder, self.video, own | variables)
        self.machines.append(machine)
        return machine

    def order(self, **changes: Any) -> Order:
        """With a picture in the store; `request` adds to its fields."""
        key = f"uploads/{uuid.uuid4().hex}.png"
        self.play(self.store.put(key, png(), "image/png"))
        request = {"prompt": "a cat", "width": 64, "height": 64, **changes.pop("request", {})}
        fields = {"dialect": "test", "owner": "me", "pictures": {"image_base64": key}, "retention_s": 3600.0}
        return Order(**{**fields, "request": request, **changes})

    def submit(self, order: Order | None = None) -> str:
        task_id = uuid.uuid4().hex
        self.play(self.engine.submit(task_id, order or self.order(), is_held=False, priority=1))
        return task_id

    def task(self, task_id: str) -> Task:
        [task] = self.play(self.engine.get([task_id]))
        return task

    def wait(self, task_id: str, limit_s: float = LIMIT_S) -> Task:
        """The task when it has ended."""
        try:
            wait_until(lambda: self.task(task_id).is_final, limit_s)
            return self.task(task_id)
        except AssertionError:
            said = "\n".join(machine.said()[-3000:] for machine in self.machines)
            raise AssertionError(f"{self.task(task_id)!r}\n{said}") from None

    def wait_running(self, task_id: str) -> None:
        wait_until(lambda: self.task(task_id).state == "running")

    def results(self) -> list[str]:
        """Keys of the videos in the store, and whatever else lies beside them."""
        folder = self.objects / "results"
        return sorted(str(path.relative_to(self.objects)) for path in folder.rglob("*") if path.is_file())

    def processes_left(self) -> list[str]:
        """Commands of the living that carry this deployment's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                text = (entry / "environ").read_bytes() + (command := (entry / "cmdline").read_bytes())
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(self.folder).encode() in text and state not in ("Z", "X"):
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def wait_no_process(self) -> None:
        """The dying have a moment. Raises AssertionError."""
        wait_until(lambda: not self.processes_left())

    def close(self) -> None:
        for machine in self.machines:
            machine.end()
        self.engine.close()
        self._loop.close()


@contextmanager
def deployed(folder: Path, **options: Any) -> Iterator[Deployment]:
    folder.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(folder, **options)
    try:
        yield deployment
    finally:
        deployment.close()
