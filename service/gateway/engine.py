"""The durable queue, as the gateway uses it: DBOS's workflows are the tasks, and a task's id is its workflow's.

Nothing here knows a provider. Blocking calls of the database run in threads.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus

from ..contract.failure import Failure
from ..contract.progress import Progress
from ..tasks.database import dbos_config
from ..tasks.names import APPLICATION, GATEWAY_QUEUE, LOG, PROGRESS, RENDER_QUEUES, RENDER_WORKFLOW
from ..tasks.task import LOST_TOO_OFTEN, LogLine, Order, Outcome, Task, TaskState

POLL_S = 0.1
ENDED = "ended"  # attribute: the failure that the gateway itself ended a task with, before it cancelled it
LIVE = ["DELAYED", "ENQUEUED", "PENDING"]
HELD_S = 10 * 365 * 24 * 3600.0  # a throttled task's delay: until the gateway lets it go

_STATES: dict[str, TaskState] = {
    "DELAYED": "throttled",
    "ENQUEUED": "queued",
    "PENDING": "running",
    "SUCCESS": "succeeded",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}


class Engine:
    """One for a process, since DBOS is one for a process. `launch` before, `close` after use."""

    def __init__(self, url: str, executor_id: str, queue: str) -> None:
        self._config = dbos_config(url, executor_id)
        self._url = url
        self._queue = queue
        self._client: DBOSClient

    def launch(self) -> None:
        """Makes or brings up to date the tables, registers the queues, takes up the gateway's own unfinished work.

        Requests go through a client of their own: where the database does not answer, DBOS itself waits for it as long
        as that takes, and the client says so at once.
        """
        DBOS(config=self._config)
        DBOS.listen_queues([GATEWAY_QUEUE])
        DBOS.launch()
        for name, worker_concurrency in RENDER_QUEUES.items():
            DBOS.register_queue(
                name, worker_concurrency=worker_concurrency, polling_interval_sec=POLL_S, on_conflict="always_update"
            )
        DBOS.register_queue(GATEWAY_QUEUE, polling_interval_sec=POLL_S, on_conflict="always_update")
        self._client = DBOSClient(
            system_database_url=self._url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,
        )

    def close(self) -> None:
        DBOS.destroy()
        self._client.destroy()

    async def submit(self, task_id: str, order: Order, *, is_held: bool, priority: int = 0) -> None:
        """Queues an order; the same id again changes nothing. A held one waits until `release`."""
        await self._enqueue(self._options(task_id, order, is_held, priority), _wire(order))

    async def submit_again(self, task_id: str, order: Order, *, is_held: bool) -> None:
        """Puts an order in the place of a task that has ended, in one transaction: there is always one of them. A task
        that lives stays as it is.
        """
        await asyncio.to_thread(self._replace, task_id, self._options(task_id, order, is_held), _wire(order))

    def _replace(self, task_id: str, options: EnqueueOptions, argument: Any) -> None:
        """What DBOS's own delete does, and its enqueue, which takes a transaction where that takes none."""
        tables = self._client._sys_db.tables
        status = tables.workflow_status
        with self._client._sys_db.engine.begin() as transaction:
            has_ended = status.c.workflow_uuid == task_id, status.c.status.not_in(LIVE)
            if transaction.execute(sa.delete(status).where(*has_ended)).rowcount != 1:
                return
            for table in (tables.workflow_input, tables.workflow_output, tables.operation_outputs):
                transaction.execute(sa.delete(table).where(table.c.workflow_uuid == task_id))
            self._client.enqueue_in_transaction(transaction, options, argument)

    def _options(self, task_id: str, order: Order, is_held: bool, priority: int = 0) -> EnqueueOptions:
        options: EnqueueOptions = {
            "workflow_name": RENDER_WORKFLOW,
            "queue_name": self._queue,
            "workflow_id": task_id,
            "authenticated_user": order.owner,
        }
        if priority:  # DBOS numbers from 1, and takes whoever has none first
            options["priority"] = priority
        if is_held:
            options["delay_seconds"] = HELD_S
        return options

    async def tell(self, workflow: str, task: Task) -> None:
        """Queues work of the gateways' own about a task's end, once for each of its attempts."""
        telling_id = _telling_id(task.id, task.order.attempt)
        await self._enqueue(
            {"workflow_name": workflow, "queue_name": GATEWAY_QUEUE, "workflow_id": telling_id}, task.id
        )

    async def _enqueue(self, options: EnqueueOptions, argument: Any) -> None:
        await asyncio.to_thread(self._client.enqueue, options, argument)

    async def release(self, task_id: str) -> None:
        await self._client.set_workflow_delay_async(task_id, delay_seconds=0)

    async def get(self, task_ids: Sequence[str]) -> list[Task]:
        """Those of them that there are, in any order."""
        if not task_ids:  # which DBOS takes for all of them
            return []
        return _tasks(await self._client.list_workflows_async(workflow_ids=list(task_ids), name=RENDER_WORKFLOW))

    async def live(self) -> dict[str, TaskState]:
        """The state of every task that has not ended."""
        found = await self._client.list_workflows_async(
            status=LIVE, name=RENDER_WORKFLOW, load_input=False, load_output=False
        )
        return {status.workflow_id: _STATES[status.status] for status in found}

    async def running(self) -> list[WorkflowStatus]:
        """The bare records of those that an executor has, with their progress."""
        return await self._client.list_workflows_async(
            status="PENDING", name=RENDER_WORKFLOW, load_input=False, load_output=False
        )

    async def ended_since(self, since_s: float) -> list[Task]:
        """Those that ended after that time, by the database's clock."""
        since = datetime.fromtimestamp(since_s, UTC).isoformat()
        return _tasks(await self._client.list_workflows_async(completed_after=since, name=RENDER_WORKFLOW))

    async def ended_before(self, before_s: float, limit: int) -> list[Task]:
        before = datetime.fromtimestamp(before_s, UTC).isoformat()
        return _tasks(
            await self._client.list_workflows_async(completed_before=before, name=RENDER_WORKFLOW, limit=limit)
        )

    async def of_owner(self, owner: str, limit: int, offset: int) -> list[Task]:
        """The newest first."""
        return _tasks(
            await self._client.list_workflows_async(
                user=owner, name=RENDER_WORKFLOW, limit=limit, offset=offset, sort_desc=True
            )
        )

    async def ordered_since(self, since_s: float, limit: int) -> list[Task]:
        """The newest first."""
        since = datetime.fromtimestamp(since_s, UTC).isoformat()
        return _tasks(
            await self._client.list_workflows_async(start_time=since, name=RENDER_WORKFLOW, limit=limit, sort_desc=True)
        )

    async def tellers(self) -> set[str]:
        """The gateways that have work of their own in hand."""
        telling = await self._client.list_workflows_async(
            status="PENDING", queue_name=GATEWAY_QUEUE, load_input=False, load_output=False
        )
        return {status.executor_id for status in telling if status.executor_id}

    async def cancel(self, task_id: str, why: Failure | None = None) -> None:
        """A task that has ended stays as it is. `why` makes it failed, rather than cancelled."""
        if why is not None:
            attributes = {ENDED: why.model_dump(mode="json")}
            await self._client.update_workflow_attributes_async(task_id, attributes, merge=True)
        await self._client.cancel_workflow_async(task_id)

    async def cancel_all(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            await self._client.cancel_workflows_async(list(task_ids))

    async def delete(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            await self._client.delete_workflows_async(list(task_ids))

    async def delete_all_of(self, tasks: Sequence[Task]) -> None:
        """The records of tasks, and of the tellings of their ends."""
        tellings = [_telling_id(task.id, n) for task in tasks for n in range(task.order.attempt + 1)]
        await self.delete([*(task.id for task in tasks), *tellings])

    async def recover(self, executor_ids: Iterable[str]) -> int:
        """Gives the tasks of lost executors back to the queue; idempotent. How many there were.

        The call that DBOS's own admin route makes; it has no public name.
        """
        handles = await asyncio.to_thread(DBOS._recover_pending_workflows, list(executor_ids))
        return len(handles)


def _wire(order: Order) -> dict[str, Any]:
    return order.model_dump(mode="json", exclude_defaults=True)


def _telling_id(task_id: str, attempt: int) -> str:
    return f"{task_id}-told{f'-{attempt}' if attempt else ''}"


def _tasks(statuses: Iterable[WorkflowStatus]) -> list[Task]:
    return [task_of(status) for status in statuses]


def task_of(status: WorkflowStatus) -> Task:
    """A task of DBOS's record with input and output."""
    attributes = status.attributes or {}
    state = _STATES[status.status]
    outcome = Outcome()
    if state == "succeeded":
        outcome = Outcome.model_validate(status.output)
    elif state == "failed":
        outcome = Outcome(failure=LOST_TOO_OFTEN if status.status != "ERROR" else _engine_failure(status))
    elif state == "cancelled" and ENDED in attributes:
        outcome = Outcome(failure=Failure.model_validate(attributes[ENDED]))
    if outcome.failure is not None:
        state = "failed"
    assert status.input is not None
    order = Order.model_validate(status.input["args"][0])
    return Task(
        id=status.workflow_id,
        state=state,
        order=order,
        created_at_s=order.ordered_at_s or _seconds(status.created_at) or 0.0,
        started_at_s=_seconds(status.dequeued_at),
        finished_at_s=_seconds(status.completed_at) if state in ("succeeded", "failed", "cancelled") else None,
        executor=status.executor_id,
        outcome=outcome,
        **said_while_running(attributes),
    )


def said_while_running(attributes: dict[str, Any] | None) -> dict[str, Any]:
    """`progress` and `log` of a task, by its attributes."""
    attributes = attributes or {}
    progress = attributes.get(PROGRESS)
    return {
        "progress": Progress.model_validate(progress) if progress else None,
        "log": tuple(LogLine.model_validate(line) for line in attributes.get(LOG) or ()),
    }


def _engine_failure(status: WorkflowStatus) -> Failure:
    return Failure(
        code="INTERNAL_ERROR", sentence=f"the executor failed outside the job: {type(status.error).__name__}"
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
