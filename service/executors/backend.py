"""What makes an executor's videos, as the executor calls it."""

from typing import Any, Protocol

from ..tasks.task import Order, Outcome
from .record import Record

Begun = dict[str, Any]


class Backend(Protocol):
    """This machine's GPU, or an endpoint elsewhere."""

    async def start(self) -> None:
        """Readies what the first task will need; returns at once."""

    async def stop(self) -> None:
        """Ends what runs here, and leaves nothing."""

    async def begin(self, task_id: str, order: Order) -> Begun:
        """What must be done once for a task, however often it is tried: its result is kept. Raises JobError."""

    async def render(self, task_id: str, order: Order, record: Record, begun: Begun) -> Outcome:
        """Raises JobError; cancelled when the task is, and then leaves no work behind that runs here."""

    async def discard(self, task_id: str, begun: Begun) -> None:
        """Undoes `begin`, and whatever came of it: the task has ended without a video."""
