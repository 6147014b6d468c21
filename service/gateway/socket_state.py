"""Whether a client is still there, as far as this side of its connection tells."""

import select
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .duplicates import Delivery

HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux only; elsewhere the server's own knowledge must do


class WatchDelivery:
    """ASGI middleware: knows of each answer to a POST whether the client was still there to get its last byte.

    The socket is asked right before, when nobody can have read that byte yet: uvicorn learns of a hang-up when its loop
    comes round to the socket, which a quick answer is ahead of. uvicorn is asked after.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        delivery = scope["wan_relay_delivery"] = Delivery(lambda: is_disconnected(receive))

        async def watched(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            is_lost = is_last and has_hung_up(getattr(_cycle(receive), "transport", None))
            await send(message)
            if is_last:
                delivery.answered(is_lost or is_disconnected(receive))

        await self._app(scope, receive, watched)


def is_disconnected(receive: Receive) -> bool:
    """Whether uvicorn has seen the connection break; it then drops what is sent without a word."""
    return bool(getattr(_cycle(receive), "disconnected", False))


def _cycle(receive: Receive) -> Any:
    """uvicorn's record of the request, whose method `receive` is."""
    return getattr(receive, "__self__", None)


def has_hung_up(transport: Any) -> bool:
    """Whether the end of what the other side sends has come in, read or not."""
    socket = transport.get_extra_info("socket") if transport is not None else None
    if not HUNG_UP or socket is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), HUNG_UP)
    return bool(poll.poll(0))
