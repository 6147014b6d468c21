"""What every executor is: it takes tasks from its queue, beats while it lives, and ends what was cancelled.

DBOS runs a task in a thread; the work itself is a coroutine on this process's main loop, from whose thread ComfyUI is
started (child_process.py says why).
"""

import asyncio
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

from ..contract.errors import JobError
from ..contract.failure import Failure
from ..contract.progress import Progress
from ..tasks.database import dbos_config, own_engine
from ..tasks.heartbeats import BEAT_S, Heartbeats
from ..tasks.names import APPLICATION, LOG, PROGRESS, RENDER_WORKFLOW
from ..tasks.task import LogLine, Order, Outcome

WATCH_S = 0.4
MAX_LOG_LINES = 200
# A task that takes its machine with it is given to two more, and then given up.
MAX_TRIES = 3


class Backend(Protocol):
    """What makes the videos."""

    async def start(self) -> None:
        """Readies what the first task will need; returns at once."""

    async def stop(self) -> None:
        """Ends it all, and leaves nothing."""

    async def render(self, task_id: str, order: Order, record: "Record") -> Outcome:
        """Raises JobError; cancelled when the task is, and then leaves nothing behind."""


class Record:
    """What a running task says, in its attributes. Written beside the work, which never waits for it."""

    def __init__(self, client: DBOSClient, task_id: str) -> None:
        self._client = client
        self._task_id = task_id
        self._said: dict[str, Any] = {LOG: []}
        self._changed = asyncio.Event()

    def progress(self, progress: Progress) -> None:
        self._said[PROGRESS] = progress.to_wire()
        self._changed.set()

    def log(self, text: str) -> None:
        line = LogLine(at_s=round(time.time(), 3), text=text)
        self._said[LOG] = [*self._said[LOG], line.model_dump(mode="json")][-MAX_LOG_LINES:]
        self._changed.set()

    async def write(self) -> None:
        """Until it is cancelled; the last word is written too."""
        try:
            while True:
                await self._changed.wait()
                await self._write()
                await asyncio.sleep(WATCH_S)
        finally:
            if self._changed.is_set():
                await asyncio.shield(self._write())

    async def _write(self) -> None:
        self._changed.clear()
        said = dict(self._said)
        await self._client.update_workflow_attributes_async(self._task_id, said, merge=True)


class Executor:
    """Runs one backend on one queue until it is told to stop."""

    def __init__(self, url: str, executor_id: str, queue: str, backend: Backend, about: dict[str, Any]) -> None:
        self._url = url
        self._id = executor_id
        self._queue = queue
        self._backend = backend
        self._about = {"queue": queue, "host": socket.gethostname(), "pid": os.getpid(), **about}
        self._loop: asyncio.AbstractEventLoop
        self._client: DBOSClient
        self._at_work: set[asyncio.Task[Outcome]] = set()
        self._is_stopping = False

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Until SIGTERM or SIGINT. The process must then end at once, by os._exit: a task that ran is left as it is,
        in a thread that waits for ever, and goes to whoever recovers it.
        """
        self._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(sign, stop.set)
        beats = Heartbeats(own_engine(self._url))
        # The first beat comes before the first task: whoever has a task and no row is lost.
        await asyncio.to_thread(beats.beat, self._id, self._about)
        await self._backend.start()
        await asyncio.to_thread(self._launch)
        heart = asyncio.create_task(self._beat(beats))
        on_ready()
        try:
            await stop.wait()
        finally:
            self._is_stopping = True
            heart.cancel()
            for work in self._at_work:
                work.cancel()
            await asyncio.gather(*self._at_work, return_exceptions=True)
            await self._backend.stop()
            await asyncio.to_thread(beats.leave, self._id)

    def _launch(self) -> None:
        DBOS(config=dbos_config(self._url, self._id))

        @DBOS.workflow(name=RENDER_WORKFLOW, max_recovery_attempts=MAX_TRIES)
        def render_video(order: dict[str, Any]) -> dict[str, Any]:
            work = self._render(DBOS.workflow_id or "", Order.model_validate(order))
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

        DBOS.listen_queues([self._queue])
        DBOS.launch()
        self._client = DBOSClient(
            system_database_url=self._url, serializer=DBOSPortableJSONSerializer(), application_name=APPLICATION
        )

    async def _render(self, task_id: str, order: Order) -> dict[str, Any]:
        """The outcome of a task, whatever happens in it."""
        record = Record(self._client, task_id)
        writing = asyncio.create_task(record.write())
        work = asyncio.create_task(self._backend.render(task_id, order, record))
        watch = asyncio.create_task(self._cancel_with_task(task_id, work))
        self._at_work.add(work)
        try:
            outcome = await work
        except asyncio.CancelledError:
            if self._is_stopping:
                await asyncio.Event().wait()
            outcome = Outcome(failure=Failure(code="CANCELLED", sentence="the task was cancelled"))
        except JobError as error:
            outcome = Outcome(failure=error.failure)
        except Exception:
            print(f"task {task_id}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            sentence = "the executor failed; its log says more under this task's id"
            outcome = Outcome(failure=Failure(code="INTERNAL_ERROR", sentence=sentence))
        finally:
            self._at_work.discard(work)
            watch.cancel()
            writing.cancel()
            await asyncio.gather(watch, writing, return_exceptions=True)
        return outcome.model_dump(mode="json", exclude_unset=True)

    async def _cancel_with_task(self, task_id: str, work: "asyncio.Task[Outcome]") -> None:
        """DBOS tells the waiters of a cancelled task, and lets the work go on (reference/engine.md)."""
        while not work.done():
            await asyncio.sleep(WATCH_S)
            if await self._is_taken_away(task_id):
                work.cancel()
                return

    async def _is_taken_away(self, task_id: str) -> bool:
        """Cancelled, or given to another because this machine was thought to be lost."""
        try:
            found = await self._client.list_workflows_async(workflow_ids=[task_id], load_input=False, load_output=False)
        except Exception:
            return False  # a database that does not answer takes nothing away
        return not found or found[0].status != "PENDING" or found[0].executor_id != self._id

    async def _beat(self, beats: Heartbeats) -> None:
        while True:
            try:
                await asyncio.to_thread(beats.beat, self._id, self._about)
            except Exception as error:
                print(f"heartbeat: {type(error).__name__}", file=sys.stderr, flush=True)
            await asyncio.sleep(BEAT_S)


def default_executor_id(kind: str) -> str:
    """The same after a restart on the same machine, so that DBOS takes up what was begun."""
    return f"{kind}-{socket.gethostname()}"
