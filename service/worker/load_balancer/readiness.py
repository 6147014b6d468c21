"""What the load balancer is told of this worker's health, without a probe that could be slower than it has patience."""

import asyncio
from collections.abc import Callable

from ...contract.errors import JobError
from ..comfyui.process import ComfyGoneError, ComfyProcess

READY, STARTING, UNHEALTHY = 200, 204, 503
MOST_FAILURES = 3


class Readiness:
    """RunPod takes 200 as healthy, 204 as starting, and sends no request to a worker that answers anything else.

    ComfyUI that answered once is ready as long as its process lives, busy or not; a job finds out if it is silent.
    One that ended is started again, and waited for, when the health is asked for.
    """

    def __init__(self, process: ComfyProcess, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called once the worker is to be replaced."""
        self._process = process
        self._on_lost = on_lost
        self._boot: asyncio.Task[None] | None = None
        self._failures = 0
        self.is_lost = False

    def lose(self) -> None:
        """For good: this worker is to be replaced."""
        self.is_lost = True
        self._on_lost()

    def status(self) -> int:
        if self.is_lost:
            return UNHEALTHY
        if self._process.is_running and self._process.boot_s is not None:
            return READY
        if self._boot is None or self._boot.done():
            self._boot = asyncio.create_task(self._wait())
        return STARTING

    async def _wait(self) -> None:
        try:
            await self._process.wait_ready()
            self._failures = 0
        except (ComfyGoneError, JobError):
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self.lose()
