"""Every task that is live, and those that ended lately, in memory: a status read never waits for the database.

The board follows the database by small questions (who runs, who ended since) several times a second, and by a whole
comparison every few seconds, which also finds what other gateways queued.
"""

import asyncio
import bisect
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from ..tasks.task import Task
from .engine import Engine, said_while_running
from .journal import note, trace, warn

FOLLOW_S = 0.15
IDLE_S = 1.0
COMPARE_S = 3.0
OVERLAP_S = 5.0
MAX_ENDED = 5000
ROUND_S = 20.0
PAGE = 200

_Place = tuple[float, str]


class Board:
    """`run` keeps it up to date until it is cancelled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._live: dict[str, Task] = {}
        self._ended: OrderedDict[str, Task] = OrderedDict()
        self._line: list[_Place] = []
        self._news: dict[str, asyncio.Event] = {}
        self._has_come = asyncio.Event()
        self._last_end_s = time.time() - 60
        self._compared = -COMPARE_S
        self.answered_at = time.monotonic()
        self._trouble: str | None = None
        self.on_end: Callable[[Task], Awaitable[None]] | None = None
        self.on_change: Callable[[Task | None, Task], None] = lambda before, after: None
        self._just_ended: list[Task] = []
        self.is_closing = False

    @property
    def live(self) -> list[Task]:
        return list(self._live.values())

    @property
    def ended(self) -> list[Task]:
        """Those that it still knows."""
        return list(self._ended.values())

    async def get(self, task_id: str) -> Task | None:
        """From memory, else by one indexed read."""
        task = self._live.get(task_id) or self._ended.get(task_id)
        if task is None:
            found = await self._engine.get([task_id])
            if not found:
                return None
            self.put(task := found[0])
        if task.state == "queued":
            position = bisect.bisect_left(self._line, (task.created_at_s, task.id))
            return task.model_copy(update={"queue_position": position})
        return task

    def put(self, task: Task) -> None:
        """A task as it now is; wakes those who wait for news of it."""
        old = self._live.get(task.id) or self._ended.get(task.id)
        if old == task or (old is not None and task.order.attempt < old.order.attempt):
            return  # the latter was read before the task was queued again under its id
        if old is not None and old.state == "queued":
            self._leave_line(old)
        if task.is_final:
            if task.id in self._live:
                self._just_ended.append(task)
            self._live.pop(task.id, None)
            self._ended[task.id] = task
            while len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
        else:
            self._ended.pop(task.id, None)
            self._live[task.id] = task
            self._has_come.set()
            if task.state == "queued":
                bisect.insort(self._line, (task.created_at_s, task.id))
        if news := self._news.pop(task.id, None):
            news.set()
        self.on_change(old, task)

    def forget(self, task_id: str) -> None:
        task = self._live.pop(task_id, None) or self._ended.pop(task_id, None)
        if task is not None and task.state == "queued":
            self._leave_line(task)
        if news := self._news.pop(task_id, None):
            news.set()

    def _leave_line(self, task: Task) -> None:
        place = (task.created_at_s, task.id)
        at = bisect.bisect_left(self._line, place)
        if at < len(self._line) and self._line[at] == place:
            del self._line[at]

    def close(self) -> None:
        """Ends all waiting for news, now and from now on."""
        self.is_closing = True
        for event in self._news.values():
            event.set()

    async def news(self, task_id: str, timeout_s: float) -> None:
        """Returns when the task has changed, or after that time, or when the gateway ends."""
        if self.is_closing:
            return
        event = self._news.setdefault(task_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass

    async def follow(self, task_id: str, idle_s: float = 15.0) -> AsyncIterator[Task]:
        """The task now and after each change, and again after `idle_s` without one, to its end or removal."""
        while (task := await self.get(task_id)) is not None:
            yield task
            if task.is_final or self.is_closing:
                return
            if await self.get(task_id) == task:
                await self.news(task_id, idle_s)

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(ROUND_S):
                    await self.update()
                self._said(None)
            except Exception as error:
                self._said(error)
                await asyncio.sleep(1.0)
            await self._pause()

    async def _pause(self) -> None:
        """Short while there are live tasks; else until there is one, or to see what other gateways have."""
        if self._live:
            await asyncio.sleep(FOLLOW_S)
            return
        self._has_come.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._has_come.wait()

    def _said(self, error: Exception | None) -> None:
        """Once for each kind of trouble, and once at its end."""
        trouble = type(error).__name__ if error else None
        if trouble != self._trouble:
            if error:
                warn("database", sentence="the database does not answer", error=trace(error))
            else:
                note("database", sentence="the database answers again")
        self._trouble = trouble

    async def update(self) -> None:
        """One round."""
        before = set(self._live)
        running = await self._engine.running()
        self._take_running(running)
        unsure = {status.workflow_id for status in running} - self._live.keys()
        self._put_all(await self._engine.ended_since(self._last_end_s - OVERLAP_S))
        if time.monotonic() - self._compared >= COMPARE_S:
            live = await self._engine.live()
            unsure |= {id for id, state in live.items() if id not in self._live or self._live[id].state != state}
            unsure |= before & self._live.keys() - live.keys()
            self._compared = time.monotonic()
        for page in batched(sorted(unsure), PAGE):
            found = await self._engine.get(page)
            self._put_all(found)
            for task_id in set(page) - {task.id for task in found}:
                self.forget(task_id)
        self.answered_at = time.monotonic()
        while self._just_ended and self.on_end is not None:
            await self.on_end(self._just_ended[0])
            del self._just_ended[0]

    def _take_running(self, running: Iterable[Any]) -> None:
        ids = set()
        for status in running:
            ids.add(status.workflow_id)
            if task := self._live.get(status.workflow_id):
                update = {
                    "state": "running",
                    "started_at_s": status.dequeued_at and status.dequeued_at / 1000,
                    "executor": status.executor_id,
                    **said_while_running(status.attributes),
                }
                self.put(task.model_copy(update=update))
        if any(task.state == "running" and task.id not in ids for task in self._live.values()):
            self._compared = -COMPARE_S  # it ended, or went back to the queue: the rest of this round tells

    def _put_all(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            if task.finished_at_s is not None:
                self._last_end_s = max(self._last_end_s, min(task.finished_at_s, time.time()))
            self.put(task)


def batched(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
