"""Tells a job's end to the address that came with it."""

import asyncio
import contextlib

import aiohttp

from .jobs import Job


class Webhooks:
    """Must answer 200; else there are two more tries, `pause_s` seconds apart."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._calls: set[asyncio.Task[None]] = set()

    def tell(self, job: Job) -> None:
        if job.webhook:
            task = asyncio.create_task(self._call(job))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _call(self, job: Job) -> None:
        for attempt in range(3):
            if attempt:
                await asyncio.sleep(self._pause_s)
            with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                    session.post(str(job.webhook), json=job.as_json()) as response,
                ):
                    if response.status == 200:
                        return
