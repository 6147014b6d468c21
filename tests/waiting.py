"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")
LONGEST_LOOK_S = 1.0


def wait_until(condition: Callable[[], T | Literal[False] | None], limit_s: float = 120, pause_s: float = 0.02) -> T:
    """What the condition says when that is true at last.

    A machine that stood still, as lent ones do for a minute, was not waiting: one look counts for a second at most.

    Raises
    ------
    AssertionError: it was never true within `limit_s`.
    """
    waited_s, looked_at = 0.0, time.monotonic()
    while not (said := condition()):
        assert waited_s < limit_s, f"it never came, the last look says {said!r}"
        time.sleep(pause_s)
        now = time.monotonic()
        waited_s += min(now - looked_at, LONGEST_LOOK_S)
        looked_at = now
    return said
