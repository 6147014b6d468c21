"""How the database sees the tasks of one executor."""

import sys
import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from dbos import DBOSClient, WorkflowStatus

from ..tasks.names import GIVEN_BACK, RENDER_WORKFLOW

# `dropped`: ended without this executor's outcome; `elsewhere`: another has it, or will.
Standing = Literal["ours", "done", "elsewhere", "dropped"]
RETRY_S = 1.0


class Said(NamedTuple):
    """What is known of a task so far. `num_tries` counts how often it was taken and not given back, now too."""

    attributes: dict[str, Any]
    num_tries: int


def _said(status: WorkflowStatus) -> Said:
    """DBOS counts every time that it hands a task out."""
    attributes = status.attributes or {}
    return Said(attributes, (status.recovery_attempts or 0) - attributes.get(GIVEN_BACK, 0))


class Standings:
    """Calls raise where the database does not answer, but for `said_of`, which waits for it."""

    def __init__(self, client: DBOSClient, executor_id: str, queue: str) -> None:
        self._client = client
        self._executor_id = executor_id
        self._queue = queue

    def said_of(self, task_id: str) -> Said:
        """Nothing of a task that was deleted."""
        while True:
            try:
                found = self._client.list_workflows(workflow_ids=[task_id], load_input=False, load_output=False)
                return _said(found[0]) if found else Said({}, 0)
            except Exception as error:
                said = f"task {task_id}: the database does not answer ({type(error).__name__})"
                print(said, file=sys.stderr, flush=True)
                time.sleep(RETRY_S)

    async def of(self, task_ids: Iterable[str]) -> dict[str, Standing]:
        ids = list(task_ids)
        found = await self._client.list_workflows_async(workflow_ids=ids, load_input=False, load_output=False)
        standing = {status.workflow_id: self._standing(status) for status in found}
        return {task_id: standing.get(task_id, "dropped") for task_id in ids}

    def _standing(self, status: WorkflowStatus) -> Standing:
        if status.status == "PENDING":
            return "ours" if status.executor_id == self._executor_id else "elsewhere"
        if status.status in ("ENQUEUED", "DELAYED"):
            return "elsewhere"
        return "done" if status.status == "SUCCESS" else "dropped"

    def ours(self) -> set[str]:
        return {status.workflow_id for status in self._ours()}

    def _ours(self) -> list[WorkflowStatus]:
        return self._client.list_workflows(
            status="PENDING", name=RENDER_WORKFLOW, executor_id=self._executor_id, load_input=False, load_output=False
        )

    def give_back(self) -> None:
        """All that is this executor's, to the queue, as tries that do not count."""
        for status in self._ours():
            times = _said(status).attributes.get(GIVEN_BACK, 0) + 1
            self._client.update_workflow_attributes(status.workflow_id, {GIVEN_BACK: times}, merge=True)
            self.put_back([status.workflow_id])

    def put_back(self, task_ids: Iterable[str]) -> None:
        """To the queue, where another finds them at once. DBOS has no public name for it: recovery is the same call."""
        for task_id in task_ids:
            self._client._sys_db.reenqueue_for_recovery(task_id, [self._executor_id], self._queue)
