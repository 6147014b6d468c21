"""What one key may have at a time and in a minute."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from ..tasks.task import Task
from .keys import Caller
from .refusal import Refusal

MINUTE_S = 60.0
QUEUE_RETRY_S = 10


class Limits:
    """Counts new tasks in memory; what runs and waits is on the board."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: dict[str, deque[float]] = {}

    def admit(self, caller: Caller, own_live: Iterable[Task], num_coming: int = 0) -> bool:
        """Whether a new task must be held because as many as may are running. Raises Refusal.

        `num_coming` are tasks of this caller that are just being queued.
        """
        admitted = waiting = num_coming
        for task in own_live:
            admitted += task.state in ("queued", "running")
            waiting += task.state in ("queued", "throttled")
        limits = caller.limits
        if limits.queued is not None and waiting >= limits.queued:
            sentence = f"this key has {waiting} tasks waiting, and may have {limits.queued}"
            raise Refusal("QUEUE_FULL", sentence, retry_after_s=QUEUE_RETRY_S)
        if limits.per_minute is not None:
            self._count(caller.id, limits.per_minute)
        return limits.running is not None and admitted >= limits.running

    def _count(self, caller_id: str, per_minute: int) -> None:
        now = self._clock()
        recent = self._recent.setdefault(caller_id, deque())
        while recent and now - recent[0] >= MINUTE_S:
            recent.popleft()
        if len(recent) >= per_minute:
            wait_s = math.ceil(MINUTE_S - (now - recent[0]))
            sentence = f"this key may start {per_minute} tasks a minute; the next may come in {wait_s} s"
            raise Refusal("RATE_LIMITED", sentence, retry_after_s=wait_s)
        recent.append(now)


def to_release(live: Iterable[Task], running_limit: Callable[[str], int | None]) -> list[Task]:
    """The throttled tasks whose owner has room for them now, the oldest first."""
    room: dict[str, float] = {}
    throttled = []
    for task in sorted(live, key=lambda task: task.created_at_s):
        owner = task.order.owner
        if owner not in room:
            limit = running_limit(owner)
            room[owner] = math.inf if limit is None else limit
        if task.state == "throttled":
            throttled.append(task)
        else:
            room[owner] -= 1
    released = []
    for task in throttled:
        if room[task.order.owner] > 0:
            room[task.order.owner] -= 1
            released.append(task)
    return released
