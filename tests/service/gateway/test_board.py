"""What the board makes of looks at the database that come late."""

import asyncio
from typing import Any

import pytest
from wan_relay.service.gateway.board import Board
from wan_relay.service.tasks.task import Order, Task


def task(attempt: int, at_s: float, state: Any) -> Task:
    order = Order(dialect="api", owner="a", request={}, retention_s=1, attempt=attempt)
    return Task(id="t", state=state, order=order, created_at_s=at_s)


@pytest.mark.parametrize("again_at_s", [1010.0, 990.0])
def test_the_newest_try_counts_whatever_the_clock_says(again_at_s: float) -> None:
    engine: Any = None
    board = Board(engine)
    before, again = task(0, 1000.0, "failed"), task(1, again_at_s, "running")
    for seen in (before, again, before):
        board.put(seen)
    assert asyncio.run(board.get("t")) == again
    assert (board.live, board.ended) == ([again], [])
