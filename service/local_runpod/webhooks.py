"""Tells a job's end to the address that came with it, when that is on the public internet or trusted."""

import asyncio
import sys

import aiohttp

from ..media.addresses import TrustedHosts
from ..media.guarded_http import dialled_url, guarded_session, is_blocked
from .jobs import Job

TRIES = 3
DEADLINE_S = 10.0


class Webhooks:
    """Must answer 200, and a redirect does not; else there are two more tries, `pause_s` seconds apart."""

    def __init__(self, pause_s: float, trusted_hosts: TrustedHosts) -> None:
        self._pause_s = pause_s
        self._trusted_hosts = trusted_hosts
        self._calls: set[asyncio.Task[None]] = set()

    def tell(self, job: Job) -> None:
        if job.webhook:
            task = asyncio.create_task(self._call(job, job.webhook))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _call(self, job: Job, url: str) -> None:
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self._pause_s)
            try:
                if await self._post(job, url) == 200:
                    return
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if is_blocked(error):
                    sentence = "is not called: its host is neither public nor among the trusted ones"
                    print(f"the webhook of job {job.id} {sentence}", file=sys.stderr, flush=True)
                    return

    async def _post(self, job: Job, url: str) -> int:
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        async with (
            guarded_session(self._trusted_hosts, timeout=timeout) as session,
            session.post(dialled_url(url), json=job.as_json(), allow_redirects=False) as response,
        ):
            return response.status
