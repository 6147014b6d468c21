"""An S3 server on this machine, and its moods."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

DENIED = "<Error><Code>AccessDenied</Code></Error>"


class FakeS3:
    """Takes PUTs. Its answers are the moods, one after the other, the last one for good: an HTTP status,
    `mute` (never answers), `cut` (drops the connection) or `hasty` (denies before the body is there).
    """

    def __init__(self, *moods: int | str, patience_s: float = 30.0) -> None:
        self.moods = list(moods) or [200]
        self.patience_s = patience_s
        self.requests: list[web.BaseRequest] = []
        self.bodies: list[bytes] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(request)
        mood = self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]
        if mood == "hasty":
            assert request.transport is not None
            head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(DENIED)}\r\nConnection: close\r\n\r\n"
            request.transport.write(head.encode() + DENIED.encode())
            request.transport.close()
        self.bodies.append(await request.read())
        if mood == "mute":
            await asyncio.sleep(600)
        if mood == "cut":
            assert request.transport is not None
            request.transport.abort()
        if isinstance(mood, int) and 300 <= mood < 400:
            return web.Response(status=mood, headers={"Location": "/elsewhere"})
        return web.Response(status=int(mood) if isinstance(mood, int) else 500, text=DENIED if mood == 403 else "")

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The endpoint's URL."""
        runner = web.ServerRunner(web.Server(self.answer), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
