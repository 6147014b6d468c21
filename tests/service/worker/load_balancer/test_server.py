"""The worker of a Load Balancer endpoint as a process of its own, over a fake ComfyUI."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from wan_relay.service.worker.settings import Settings
from wan_relay.tests.service.worker.conftest import FAKE_COMFYUI, Bench, make_mp4

ROOT = Path(__file__).resolve().parents[4]
GPU_ERROR = "error:RuntimeError:CUDA error: an illegal memory access was encountered"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Process:
    """Serves requests and health checks on two ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.health_port = free_port(), free_port()
        (folder / "run" / "output").mkdir(parents=True)
        (folder / "video.mp4").write_bytes(make_mp4())
        self.configure()
        variables = {
            "COMFYUI_PATH": str(FAKE_COMFYUI),
            "COMFYUI_PYTHON": sys.executable,
            "COMFYUI_PORT": "0",
            "COMFYUI_BASE": str(folder / "base"),
            "WAN_RELAY_RUN_DIR": str(folder / "run"),
            "WAN_RELAY_VOLUME": str(folder / "volume"),
            "WAN_RELAY_MIN_FREE_DISK_MB": "1",
            "WAN_RELAY_ENDPOINT_TYPE": "LB",
            "WAN_RELAY_LB_HOST": "127.0.0.1",
            "WAN_RELAY_LB_TIMEOUT_S": "120",
            "PORT": str(self.port),
            "PORT_HEALTH": str(self.health_port),
        }
        self.log = folder / "log.txt"
        with self.log.open("wb") as out:
            command = [sys.executable, "-m", "service.worker.handler"]
            options: dict[str, Any] = {"cwd": ROOT, "env": os.environ | variables, "start_new_session": True}
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)

    def configure(self, **config: Any) -> None:
        text = json.dumps({"video": str(self.folder / "video.mp4")} | config)
        (self.folder / "run" / "fake.json").write_text(text)

    def call(self, port: int, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON); (0, None) where nothing listens."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def ready(self) -> None:
        deadline = time.monotonic() + 90
        while self.call(self.health_port, "/ping")[0] != 200:
            assert self.child.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    try:
        yield process
    finally:
        if process.child.poll() is None:
            os.killpg(process.child.pid, signal.SIGKILL)
        process.child.wait(30)


@pytest.mark.timeout(180)
def test_two_ports_and_an_end_when_the_gpu_is_lost(process: Process, bench: Bench) -> None:
    process.ready()
    assert f"ready http://127.0.0.1:{process.port}\n" in process.log.read_text()
    assert process.call(process.port, "/ping") == (200, {"status": "ready", "deadline_s": 120})
    request = {"input": bench.job(seed=3)["input"]}
    status, answer = process.call(process.port, "/video", request)
    assert (status, answer["seed"]) == (200, 3)
    process.configure(faults={"queued": [GPU_ERROR, 1]})
    status, answer = process.call(process.port, "/video", request)
    assert (status, answer["error"].partition(":")[0]) == (503, "GPU_ERROR")
    assert process.child.wait(60) == 1


@pytest.mark.timeout(180)
def test_sigterm_ends_it_and_its_comfyui(process: Process) -> None:
    process.ready()
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(60) == 0
    with pytest.raises(ProcessLookupError):  # the session has nobody left
        os.killpg(process.child.pid, 0)


def test_a_budget_that_the_balancer_would_cut_is_refused() -> None:
    with pytest.raises(ValidationError, match="WAN_RELAY_LB_TIMEOUT_S"):
        Settings.from_environment({"WAN_RELAY_LB_TIMEOUT_S": "330"})


@pytest.mark.parametrize(("job_s", "balancer_s", "used_s"), [("570", "300", 300), ("60", "300", 60)])
def test_the_smaller_budget_counts(job_s: str, balancer_s: str, used_s: float) -> None:
    variables = {"WAN_RELAY_JOB_TIMEOUT_S": job_s, "WAN_RELAY_LB_TIMEOUT_S": balancer_s}
    assert Settings.from_environment(variables).for_load_balancer().job_timeout_s == used_s
