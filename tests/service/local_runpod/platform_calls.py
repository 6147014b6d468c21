"""An endpoint in the test's own process: a client of it, and what stands in for the SDK."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import ClientSession, web
from wan_relay.service.local_runpod.endpoint import Endpoint
from wan_relay.service.local_runpod.jobs import Jobs, Limits
from wan_relay.service.media.addresses import NO_TRUSTED_HOSTS, TrustedHosts

SHORT = Limits(
    run_payload=2000,
    runsync_payload=4000,
    stream_chunk=200,
    min_wait_ms=1,
    min_execution_timeout_ms=1,
    min_ttl_ms=1,
    long_poll_s=0.3,
    webhook_pause_s=0.05,
)
WIDE = Limits(long_poll_s=0.3, min_wait_ms=1)


class Answer(NamedTuple):
    status: int
    head: str
    content: bytes


@dataclass
class Api:
    """A client of the endpoint, and a stand-in for the SDK's side."""

    client: ClientSession
    port: int
    sdk_path: str
    jobs: Jobs

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.client.request(method, f"/v2/local{path}", data=data, headers=headers) as response:
            return response.status, await response.json()

    async def by_hand(self, method: str, path: str, body: bytes | None = None, **headers: bytes | None) -> "Answer":
        """A call whose bytes nobody improves: headers are sent as they are, None leaves one out."""
        own = {"Host": b"127.0.0.1"} | ({} if body is None else {"Content-Length": b"%d" % len(body)})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [name.encode() + b": " + value for name, value in (own | named).items() if value is not None]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *lines, b"", body or b""]))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)content-length: (\d+)", head)
            return Answer(int(head.split()[1]), head, await reader.readexactly(int(length[1]) if length else 0))
        finally:
            writer.close()

    async def take(self) -> Any:
        async with self.client.get(f"{self.sdk_path}/job-take/w1?gpu=x&job_in_progress=0") as response:
            return await response.json() if response.status == 200 else None

    async def done(self, job_id: str, body: Any) -> int:
        async with self.client.post(
            f"{self.sdk_path}/job-done/w1/{job_id}?gpu=x&isStream=false", data=json.dumps(body)
        ) as response:
            return response.status


@contextlib.asynccontextmanager
async def serving(
    limits: Limits = SHORT, api_key: str = "", trusted_hosts: TrustedHosts = NO_TRUSTED_HOSTS
) -> AsyncIterator[Api]:
    """Served as `python -m service.local_runpod` does; aiohttp's own test server would cancel what a client leaves."""
    endpoint = Endpoint(limits, api_key=api_key, trusted_hosts=trusted_hosts)
    clock = asyncio.create_task(endpoint.jobs.keep_time())
    runner = web.AppRunner(endpoint.application(), shutdown_timeout=1.0)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            yield Api(client, port, endpoint.sdk_path, endpoint.jobs)
    finally:
        clock.cancel()
        await endpoint.jobs.close()
        await runner.cleanup()


def play(scenario: Callable[[Api], Coroutine[Any, Any, None]], limits: Limits = SHORT, api_key: str = "") -> None:
    async def main() -> None:
        async with serving(limits, api_key) as api, asyncio.timeout(30):
            await scenario(api)

    asyncio.run(main())
