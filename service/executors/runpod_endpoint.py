"""RunPod's HTTP API, as an executor calls it: what may go away by itself is tried again."""

import asyncio
import contextlib
import json
import time
from typing import Any

import aiohttp

from ..contract.errors import JobError

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 5.0
CALL_S = 60.0
# How long an endpoint may be away, by what hangs on it: a job that was not taken yet, one that runs, one to be ended.
SUBMIT_S = 300.0
SILENT_S = 1800.0
CANCEL_S = 20.0
MAX_BODY = 10_000_000  # the platform's cap on /run
PASSING = (408, 425, 429, 500, 502, 503, 504)


class UnknownJobError(Exception):
    """The platform has no such job, or no longer."""


class Pause:
    """Grows from call to call, from half a second to five."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def reset(self) -> None:
        self._next_s = FIRST_PAUSE_S

    async def wait(self) -> None:
        pause_s, self._next_s = self._next_s, min(self._next_s * 1.5, MAX_PAUSE_S)
        await asyncio.sleep(pause_s)


class RunpodEndpoint:
    """`https://api.runpod.ai/v2/<id>`, or the local platform's. Use it within one event loop."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, body: bytes) -> str:
        """The job's id. Raises JobError.

        A call whose answer is lost is made again: RunPod knows no key against duplicates, so that a job may run twice
        there, of which one is never asked for. A cancelled call is waited for a little, and its job then cancelled.
        """
        call = asyncio.ensure_future(self._until_taken("POST", "/run", SUBMIT_S, data=body))
        try:
            answer = await asyncio.shield(call)
        except asyncio.CancelledError:
            with contextlib.suppress(JobError, UnknownJobError, TimeoutError, KeyError):
                job_id = (await asyncio.wait_for(call, CANCEL_S))["id"]
                await self.cancel(job_id)
            raise
        except UnknownJobError:
            raise JobError("BACKEND_UNAVAILABLE", "RunPod knows no endpoint of this name") from None
        if not isinstance(answer.get("id"), str):
            raise JobError("BACKEND_UNAVAILABLE", "the RunPod endpoint took the job without naming it")
        return str(answer["id"])

    async def status(self, job_id: str) -> dict[str, Any]:
        """Raises UnknownJobError, JobError."""
        return await self._until_taken("GET", f"/status/{job_id}", SILENT_S)

    async def cancel(self, job_id: str) -> None:
        """Raises JobError; no error for a job that is not known."""
        with contextlib.suppress(UnknownJobError):
            await self._until_taken("POST", f"/cancel/{job_id}", CANCEL_S)

    async def _until_taken(self, method: str, path: str, limit_s: float, **options: Any) -> dict[str, Any]:
        pause, give_up = Pause(), time.monotonic() + limit_s
        while True:
            status, answer = await self._call(method, path, options)
            if status == 200 and isinstance(answer, dict):
                return answer
            if status == 404:
                raise UnknownJobError
            if status in (401, 403):
                raise JobError("BACKEND_UNAVAILABLE", "the RunPod endpoint does not let the gateway's executor in")
            if status not in PASSING and status not in (0, 200):
                raise JobError("BACKEND_UNAVAILABLE", f"the RunPod endpoint refused the call (HTTP {status})")
            if time.monotonic() > give_up:
                how = f"with HTTP {status}" if status else "not at all"
                raise JobError("BACKEND_UNAVAILABLE", f"the RunPod endpoint answered {how} for {limit_s:g} s")
            await pause.wait()

    async def _call(self, method: str, path: str, options: dict[str, Any]) -> tuple[int, Any]:
        """(status, JSON body); (0, None) where none came. A redirect is not followed: the key is for this host."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={**self._headers, "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=CALL_S),
                connector=aiohttp.TCPConnector(limit=20, resolver=aiohttp.ThreadedResolver()),
            )
        try:
            async with self._session.request(method, self._url + path, allow_redirects=False, **options) as response:
                content = await response.read()
                return response.status, json.loads(content) if response.status == 200 else None
        except ValueError:
            return 200, None
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            return 0, None
