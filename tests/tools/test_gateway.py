"""`dev.py gateway`: a video through all of it, one part that dies, and nothing that is left."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest
from wan_relay.tests.service.gateway.stand import PICTURE, wait_until
from wan_relay.tests.test_dev import processes_with
from wan_relay.tools import gateway
from wan_relay.tools.comfyui_server import free_port
from wan_relay.tools.environment import ROOT
from wan_relay.tools.processes import DevError


def part(code: str) -> gateway.Part:
    return gateway.Part("part", [sys.executable, "-c", code], {})


def test_a_part_that_does_not_start_is_one_sentence() -> None:
    with contextlib.ExitStack() as stack:
        running = gateway.Running(part("raise SystemExit(3)"), stack)
        with pytest.raises(DevError, match=r"^The part did not start \(exit code 3\)\.$"):
            running.wait_until_ready()


def test_a_part_that_dies_at_once_again_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is started again; where that does not help, all ends."""
    with contextlib.ExitStack() as stack:
        running = gateway.Running(part("print('ready x', flush=True)"), stack)
        running.wait_until_ready()
        assert running.word == "x"
        running.process.wait()
        running.started_at -= gateway.SHORT_LIFE_S
        first = running.process
        running.watch()
        assert running.process is not first
        running.process.wait()
        with pytest.raises(DevError, match=r"^The part stopped by itself \(exit code 0\), and all ends with it\.$"):
            running.watch()


@contextlib.contextmanager
def served(cache: Path, toy_models: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    models = cache / "toy"
    if not models.exists():
        models.symlink_to(toy_models)
    command = [sys.executable, "-P", str(ROOT / "dev.py"), "run", "tools.gateway", str(port), "local", "toy-size"]
    variables = os.environ | {"WAN_RELAY_TOY_MODELS": str(models)}
    with (cache / "log").open("a") as log:
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"ready http://127.0.0.1:{port}\n", (cache / "log").read_text()[-3000:]
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _drain(pipe: IO[str]) -> None:
    with contextlib.suppress(ValueError):
        for _ in pipe:
            pass


@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_video_through_all_of_it(tmp_path: Path, toy_models: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/videos"
    with served(tmp_path, toy_models, port) as process:
        order = {"prompt": "pan left", "image_url": PICTURE, "duration": 0.5, "resolution": "480p", "seed": 1}
        first = httpx.post(url, json=order, timeout=60).json()
        assert any("toy size" in warning for warning in first["warnings"])
        ended = wait_until(lambda: (v := httpx.get(f"{url}/{first['id']}").json())["status"] not in RUNNING and v, 400)
        assert ended["status"] == "succeeded", ended["error"]
        content = httpx.get(ended["video"]["url"]).content
        assert content[4:8] == b"ftyp"
        [executor] = children(process.pid, "service.executors.local")
        os.kill(executor, signal.SIGKILL)
        time.sleep(0.5)
        if process.poll() is None:  # it had lived long enough to be started again
            wait_until(lambda: children(process.pid, "service.executors.local") not in ([], [executor]))
            process.send_signal(signal.SIGINT)
        assert process.wait(60) in (1, 130)
    wait_until(lambda: not processes_with(str(tmp_path)))
    with served(tmp_path, toy_models, port):
        kept = httpx.get(f"{url}/{first['id']}").json()
        assert (kept["status"], httpx.get(kept["video"]["url"]).content) == ("succeeded", content)
    wait_until(lambda: not processes_with(str(tmp_path)))


RUNNING = ("queued", "running")


def children(parent: int, text: str) -> list[int]:
    """Processes of that command line whose parent it is."""
    return [pid for pid in processes_with(text) if _parent(pid) == parent]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
