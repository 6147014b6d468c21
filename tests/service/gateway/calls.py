"""What the tests ask of a stand's gateway, in few words."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until

FINAL = ("succeeded", "failed", "cancelled")


def order(stand: Stand, prompt: str, key: str | None = None, **fields: Any) -> httpx.Response:
    with stand.client(key, "/api/v1") as client:
        return client.post("/videos", json={"prompt": prompt, "image_url": PICTURE, **fields})


def video(stand: Stand, video_id: str, key: str | None = None) -> dict[str, Any]:
    with stand.client(key, "/api/v1") as client:
        return client.get(f"/videos/{video_id}").json()


def ended(stand: Stand, video_id: str, key: str | None = None, timeout_s: float = 90) -> dict[str, Any]:
    def final() -> Any:
        found = video(stand, video_id, key)
        return found.get("status") in FINAL and found

    return wait_until(final, timeout_s)


def running_on(stand: Stand, video_id: str) -> None:
    wait_until(lambda: video(stand, video_id)["status"] == "running")


def files(stand: Stand, kind: str) -> list[Path]:
    return [path for path in (stand.folder / "objects" / kind).rglob("*") if path.is_file()]


@contextmanager
def paused(process: subprocess.Popen[str]) -> Iterator[None]:
    """It stands still, as a machine that sleeps."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
