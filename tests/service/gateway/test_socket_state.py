"""A hang-up that the server has not read yet is seen before the answer goes out."""

import asyncio
import socket
from typing import Any

import pytest
from wan_relay.service.gateway.socket_state import HUNG_UP, WatchDelivery, has_hung_up

pytestmark = pytest.mark.skipif(not HUNG_UP, reason="only Linux tells")


class Cycle:
    """What of uvicorn's request the middleware looks at."""

    disconnected = False

    def __init__(self, near: socket.socket) -> None:
        self.transport = self
        self._near = near

    def get_extra_info(self, name: str) -> Any:
        return self._near if name == "socket" else None

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request"}


def answered(near: socket.socket) -> bool:
    """Whether the client is known to be gone once an answer in two pieces was sent."""
    cycle, seen = Cycle(near), []
    scope: dict[str, Any] = {"type": "http", "method": "POST"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body"})

    async def send(message: Any) -> None:
        seen.append(scope["wan_relay_delivery"].is_lost)

    asyncio.run(WatchDelivery(app)(scope, cycle.receive, send))
    assert len(seen) == 2
    return bool(scope["wan_relay_delivery"].is_lost)


def test_who_is_there_gets_the_answer() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"unread")
        assert not has_hung_up(Cycle(near))
        assert answered(near) is False


def test_who_hung_up_is_gone_though_its_last_words_are_unread() -> None:
    near, far = socket.socketpair()
    with near:
        far.sendall(b"unread")
        far.close()
        assert has_hung_up(Cycle(near))
        assert answered(near) is True


def test_a_connection_that_is_closed_here_tells_nothing() -> None:
    near, far = socket.socketpair()
    near.close()
    assert not has_hung_up(Cycle(near))
    assert not has_hung_up(None)
    far.close()
