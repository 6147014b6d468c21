"""What a running task says, kept in its attributes for the gateway to show."""

import asyncio
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

    def progress(self, progress: Progress) -> None:
        self._said[PROGRESS] = progress.to_wire()
        self._changed.set()

    def log(self, text: str) -> None:
        line = LogLine(at_s=round(time.time(), 3), text=text)
        self._said[LOG] = [*self._said[LOG], line.model_dump(mode="json")][-MAX_LOG_LINES:]
        self._changed.set()

    async def write(self) -> None:
        """Until it is cancelled. A database that does not answer is asked again."""
        while True:
            await self._changed.wait()
            await self.write_once()
            await asyncio.sleep(WRITE_S)

    async def write_once(self) -> None:
        """The last word, if it has not been written yet."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        try:
            await self._client.update_workflow_attributes_async(self._task_id, dict(self._said), merge=True)
        except Exception:
            self._changed.set()
