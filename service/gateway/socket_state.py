"""Whether a client has hung up although the server has not read so far: its answer is then known to be lost."""

import select
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux only; elsewhere the server's own knowledge must do


class SeesHangUps:
    """ASGI middleware: looks right before the last byte of an answer goes out, when nobody can have read it yet.

    uvicorn learns of a hang-up when its loop comes round to the socket, which a quick answer is ahead of.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def looking(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                cycle: Any = getattr(receive, "__self__", None)
                if hasattr(cycle, "disconnected") and has_hung_up(getattr(cycle, "transport", None)):
                    cycle.disconnected = True
            await send(message)

        await self._app(scope, receive, looking)


def has_hung_up(transport: Any) -> bool:
    """Whether the end of what the other side sends has come in, read or not."""
    socket = transport.get_extra_info("socket") if transport is not None else None
    if not HUNG_UP or socket is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), HUNG_UP)
    return bool(poll.poll(0))
