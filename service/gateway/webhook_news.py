"""Tells webhooks of what happens before a task's end, for dialects that promise that, with one try each.

Whoever missed one learns all of it from the last one, which webhooks.py makes sure of.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from ..tasks.task import Task
from .desk import Desk
from .webhooks import Webhooks

PAUSE_S = 0.5
MAX_AT_A_TIME = 100


class WebhookNews:
    """One call at a time for a task, at least PAUSE_S apart; what changes meanwhile is told together."""

    def __init__(self, webhooks: Webhooks, desk: Desk, dialects: Mapping[str, Any]) -> None:
        """A dialect with `is_news(before, after)` says which changes of a task it tells."""
        self._webhooks = webhooks
        self._desk = desk
        self._dialects = dialects
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._untold: dict[str, Task] = {}

    def changed(self, before: Task | None, after: Task) -> None:
        if after.is_final:
            self._untold.pop(after.id, None)
            if call := self._calls.pop(after.id, None):
                call.cancel()  # nothing comes after the last word
            return
        dialect: Any = self._dialects.get(after.order.dialect)
        if after.order.webhook is None or not hasattr(dialect, "is_news") or not dialect.is_news(before, after):
            return
        if after.id in self._calls:
            self._untold[after.id] = after
        elif len(self._calls) < MAX_AT_A_TIME:
            self._calls[after.id] = asyncio.get_running_loop().create_task(self._tell(after))

    async def _tell(self, task: Task) -> None:
        news: Task | None = task
        while news is not None:
            await self._webhooks.tell_once(news)
            await asyncio.sleep(PAUSE_S)
            news = self._untold.pop(task.id, None)
        self._calls.pop(task.id, None)
