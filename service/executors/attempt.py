"""One try of one task: its work, until it has an end or is told to end."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

from ..tasks.task import Order
from .record import Record

Reason = Literal["cancelled", "taken away", "stopping"]
T = TypeVar("T")


class Attempt:
    """`has_ended` once nothing of it runs in this process any more."""

    def __init__(self, record: Record, task_id: str, order: Order, *, is_one_too_many: bool) -> None:
        """`is_one_too_many` after the last try that a task has: it is given up."""
        self.record = record
        self.task_id = task_id
        self.order = order
        self.is_one_too_many = is_one_too_many
        self.reason: Reason | None = None
        self.has_ended = asyncio.Event()
        self._started = time.monotonic()
        self._work: asyncio.Task[Any] | None = None

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """One part of the try. Raises CancelledError once there is a reason, TimeoutError after the task's deadline."""
        if self.reason is not None:
            work.close()
            raise asyncio.CancelledError
        self._work = task = asyncio.ensure_future(self._in_time(work))
        return await task

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        deadline_s = self.order.deadline_s
        left_s = None if deadline_s is None else max(0.0, self._started + deadline_s - time.monotonic())
        async with asyncio.timeout(left_s):
            try:
                return await work
            except TimeoutError as error:
                raise RuntimeError("a time-out of the work's own") from error

    def end(self, reason: Reason) -> None:
        if self.reason is None:
            self.reason = reason
            if self._work is not None:
                self._work.cancel()
