"""What a running task says, kept in its attributes for the gateway to show."""

import asyncio
import contextlib
import time
from typing import Any

from dbos import DBOSClient

from ..contract.progress import Progress
from ..tasks.names import LOG, PROGRESS
from ..tasks.task import LogLine

WRITE_S = 0.3
MAX_LOG_LINES = 200


class Record:
    """Written beside the work, which never waits for it: the newest progress, and every line of the log."""

    def __init__(self, client: DBOSClient, task_id: str, attributes: dict[str, Any]) -> None:
        """`attributes` are the task's own: an earlier try's log goes on."""
        self._client = client
        self._task_id = task_id
        self._said: dict[str, Any] = {LOG: list(attributes.get(LOG) or ())}
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._has_last_word = True
        self._writing: asyncio.Task[None]

    def progress(self, progress: Progress) -> None:
        self._said[PROGRESS] = progress.to_wire()
        self._changed.set()

    def log(self, text: str) -> None:
        line = LogLine(at_s=round(time.time(), 3), text=text)
        self._said[LOG] = [*self._said[LOG], line.model_dump(mode="json")][-MAX_LOG_LINES:]
        self._changed.set()

    def start(self) -> None:
        self._writing = asyncio.create_task(self._write_until_closed())

    async def close(self, *, has_last_word: bool) -> None:
        """`has_last_word` is false when the task is another's by now."""
        self._has_last_word = has_last_word
        self._closing.set()
        self._changed.set()
        await self._writing

    async def _write_until_closed(self) -> None:
        while not self._closing.is_set():
            await self._changed.wait()
            if not self._closing.is_set() or self._has_last_word:
                await self._write()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), WRITE_S)
        if self._changed.is_set() and self._has_last_word:
            await self._write()

    async def _write(self) -> None:
        """A database that does not answer is asked again with the next word."""
        self._changed.clear()
        try:
            await self._client.update_workflow_attributes_async(self._task_id, dict(self._said), merge=True)
        except Exception:
            self._changed.set()
