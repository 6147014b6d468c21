"""Tells a job's end to the address that came with it, when that is on the public internet or trusted."""

import asyncio
import sys
from collections.abc import Callable

import aiohttp
from yarl import URL

from ..media.addresses import is_public_address
from ..media.fetch import _BlockedHost, _check_url, _PublicResolver
from .jobs import Job

TRIES = 3
DEADLINE_S = 10.0


class Webhooks:
    """Must answer 200, and a redirect does not; else there are two more tries, `pause_s` seconds apart.

    Of `trusted_hosts` each is `host` or `host:port`, and may lie anywhere.
    """

    def __init__(self, pause_s: float, trusted_hosts: frozenset[str]) -> None:
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
            except _BlockedHost:
                sentence = "is not called: its host is neither public nor among the trusted ones"
                print(f"the webhook of job {job.id} {sentence}", file=sys.stderr, flush=True)
                return
            except (aiohttp.ClientError, OSError, ValueError):
                continue

    async def _post(self, job: Job, url: str) -> int:
        is_allowed = self._guard(URL(url))
        _check_url(url, "webhook", is_allowed)
        connector = aiohttp.TCPConnector(resolver=_PublicResolver(is_allowed), use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, json=job.as_json(), allow_redirects=False) as response,
        ):
            return response.status

    def _guard(self, url: URL) -> Callable[[str], bool]:
        """Which addresses a call of this URL may dial."""
        names = {f"{url.raw_host}", f"{url.raw_host}:{url.port}"}
        return is_public_address if self._trusted_hosts.isdisjoint(names) else lambda address: True
