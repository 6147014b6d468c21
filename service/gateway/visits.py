"""Each request from its first byte to its answer's last: its id, its place in the figures, its line in the journal.

The id is in the answer too, as `x-request-id`: what a client quotes is found in the journal.
"""

import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .http import facts_of
from .journal import note
from .metrics import Metrics

NOBODY_ANSWERED = 499
QUIET_METHODS = ("GET", "HEAD", "OPTIONS")


class Visits:
    """ASGI middleware. Reads that went well are counted, and have no line: clients ask for a status all the time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["wan_relay_request_id"] = str(uuid.uuid4())
        facts = facts_of(scope)
        status = NOBODY_ANSWERED
        started = time.monotonic()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.monotonic() - started
            self._metrics.request(facts.get("dialect", "none"), status, seconds)
            if scope["method"] not in QUIET_METHODS or status >= 400:
                method = scope["method"] if scope["method"].isalpha() else None
                note("request", request_id=request_id, method=method, status=status, seconds=seconds, **facts)
