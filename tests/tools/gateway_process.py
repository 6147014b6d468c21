"""`dev.py gateway` as a process, on a cache folder of its own."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wan_relay.tests.test_dev import processes_with
from wan_relay.tools.environment import ROOT


@contextlib.contextmanager
def served(cache: Path, toy_models: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """With the toy family, at toy size and five frames at most."""
    models = cache / "toy"
    if not models.exists():
        models.symlink_to(toy_models)
    command = [sys.executable, "-P", str(ROOT / "dev.py"), "run", "tools.gateway", str(port), "local", "toy-size"]
    variables = os.environ | {"WAN_RELAY_TOY_MODELS": str(models), "WAN_RELAY_TOY_FRAMES": "5"}
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


def children(parent: int, text: str) -> list[int]:
    """Processes of that command line whose parent it is."""
    return [pid for pid in processes_with(text) if _parent(pid) == parent]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
