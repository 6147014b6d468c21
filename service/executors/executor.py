"""What every executor is: it takes tasks from its queue, beats while it lives, and ends what was cancelled.

DBOS runs a task in a thread; the work itself is a coroutine on this process's main loop, from whose thread ComfyUI is
started (child_process.py says why). Only DBOS decides whose outcome counts: that of who took the task last.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

from ..contract.errors import JobError
from ..contract.failure import Failure
from ..tasks.database import dbos_config, own_engine
from ..tasks.heartbeats import BEAT_S, Heartbeats
from ..tasks.names import APPLICATION, RENDER_WORKFLOW
from ..tasks.task import LOST_TOO_OFTEN, Order, Outcome
from .attempt import Attempt, Reason
from .backend import Backend, Begun
from .record import Record
from .standing import Said, Standings

WATCH_S = 0.3
STOP_S = 25.0  # ComfyUI is given 15 s to hear an interrupt
# A task that takes its machine with it is given to the next, and given up after the last.
MAX_TRIES = 5
TEND_S = 2.0
MAX_KEPT = 100

T = TypeVar("T")


class LostHoldError(BaseException):
    """The database went away between two calls of DBOS's, which then ends a task's thread and leaves the task as it is.

    No Exception: DBOS would make it the task's outcome.
    """


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
        self._standings: Standings
        self._attempts: dict[str, Attempt] = {}
        self._outcomes: dict[str, tuple[Order, Outcome]] = {}
        self._unsettled: dict[str, Begun] = {}
        self._is_stopping = False

    def run_process(self) -> NoReturn:
        """Until SIGTERM or SIGINT; what runs then goes back to the queue. Prints `ready <id>` when it takes tasks."""
        code = 1
        try:
            asyncio.run(self.run(lambda: print(f"ready {self._id}", flush=True)))
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # DBOS's threads wait for ever for the tasks that they began

    async def run(self, on_ready: Callable[[], None]) -> None:
        """The process must end by os._exit, as `run_process` does."""
        self._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(sign, stop.set)
        beats = Heartbeats(own_engine(self._url))
        # The first beat comes before the first task: whoever has a task and no row is lost.
        await asyncio.to_thread(beats.beat, self._id, self._about)
        await self._backend.start()
        helpers: list[asyncio.Task[None]] = []
        try:
            await asyncio.to_thread(self._launch)
            helpers = [asyncio.create_task(work) for work in (self._beat(beats), self._watch(), self._tend())]
            on_ready()
            await stop.wait()
        finally:
            self._is_stopping = True
            for helper in helpers:
                helper.cancel()
            await self._end_all("stopping")
            await self._backend.stop()
            try:
                await asyncio.to_thread(self._give_back)
                await asyncio.to_thread(beats.leave, self._id)
            except Exception as error:  # whoever sees the heart stand still recovers them
                print(f"tasks were not given back: {type(error).__name__}", file=sys.stderr, flush=True)

    def _launch(self) -> None:
        DBOS(config=dbos_config(self._url, self._id))

        @DBOS.workflow(name=RENDER_WORKFLOW, max_recovery_attempts=None)
        def render_video(order: dict[str, Any]) -> dict[str, Any]:
            assert DBOS.workflow_id is not None
            return self._try(DBOS.workflow_id, Order.model_validate(order)).model_dump(mode="json", exclude_unset=True)

        # Before the launch: the first task may come at once.
        self._client = DBOSClient(
            system_database_url=self._url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            lazy=True,
            retry_connection_errors=False,
        )
        self._standings = Standings(self._client, self._id, self._queue)
        DBOS.listen_queues([self._queue])
        DBOS.launch()

    def _try(self, task_id: str, order: Order) -> Outcome:
        """In a thread of DBOS's. An outcome that DBOS could not write down is there when it is asked for again."""
        known = self._outcomes.get(task_id)
        if known is not None and known[0] == order:
            return known[1]
        attempt = self._on_loop(self._enter(task_id, order, self._standings.said_of(task_id)))
        try:
            outcome = self._outcome_of(attempt)
        except sa.exc.DBAPIError:
            raise LostHoldError from None
        finally:
            self._on_loop(self._leave(attempt))
        if attempt.reason is None:
            self._outcomes[task_id] = (order, outcome)
            while len(self._outcomes) > MAX_KEPT:
                self._outcomes.pop(next(iter(self._outcomes)), None)
        return outcome

    def _outcome_of(self, attempt: Attempt) -> Outcome:
        """What `begin` did is remembered by the task: another try does not do it again, the last one undoes it."""
        begun: list[Begun] = []

        def begin() -> Begun:
            begun.append(self._on_loop(self._begin(attempt)))
            return begun[0]

        try:
            remembered = DBOS.run_step({"name": "begin"}, begin)
        except BaseException:
            if begun:  # the task was cancelled, or taken away, before this was remembered
                self._on_loop(self._discard(attempt.task_id, begun[0]))
            raise
        if attempt.is_one_too_many:
            self._on_loop(self._discard(attempt.task_id, remembered))
            return Outcome(failure=LOST_TOO_OFTEN)
        outcome = self._on_loop(self._render(attempt, remembered))
        self._standings.said_of(attempt.task_id)  # waits for a database that is away
        return outcome

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _enter(self, task_id: str, order: Order, said: Said) -> Attempt:
        if self._is_stopping:
            await asyncio.Event().wait()
        before = self._attempts.get(task_id)
        if before is not None:  # this executor was thought to be lost, and has it again
            before.end("taken away")
            await before.has_ended.wait()
        record = Record(self._client, task_id, said.attributes)
        attempt = Attempt(record, task_id, order, is_one_too_many=said.num_tries > MAX_TRIES)
        self._attempts[task_id] = attempt
        return attempt

    async def _leave(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.task_id) is attempt:
            del self._attempts[attempt.task_id]
        attempt.has_ended.set()

    async def _begin(self, attempt: Attempt) -> Begun:
        """Plain JSON: what the backend began, or the failure that it met."""
        if attempt.is_one_too_many:
            return {"failure": LOST_TOO_OFTEN.model_dump(mode="json")}
        begun: list[Begun] = []

        async def work() -> Outcome:
            begun.append(await self._backend.begin(attempt.task_id, attempt.order))
            return Outcome()

        outcome = await self._outcome(attempt, work())
        if outcome.failure is not None:
            return {"failure": outcome.failure.model_dump(mode="json")}
        return {"begun": begun[0]}

    async def _render(self, attempt: Attempt, remembered: Begun) -> Outcome:
        if "failure" in remembered:
            return Outcome(failure=Failure.model_validate(remembered["failure"]))
        attempt.record.start()
        work = self._backend.render(attempt.task_id, attempt.order, attempt.record, remembered["begun"])
        outcome = await self._outcome(attempt, work)
        is_ours = attempt.reason != "taken away"
        if outcome.failure is not None and is_ours:
            await self._discard(attempt.task_id, remembered)
        if outcome.failure is None:
            self._unsettled[attempt.task_id] = remembered["begun"]
        await attempt.record.close(has_last_word=is_ours)
        return outcome

    async def _outcome(self, attempt: Attempt, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Of a part of a try, whatever happens in it. Does not return while this executor stops."""
        try:
            return await attempt.do(work)
        except asyncio.CancelledError:
            if self._is_stopping:
                attempt.has_ended.set()
                await asyncio.Event().wait()
            return Outcome(failure=Failure(code="CANCELLED", sentence="the task was cancelled"))
        except TimeoutError:
            sentence = f"the task did not finish within {attempt.order.deadline_s:g} s"
            return Outcome(failure=Failure(code="TIMEOUT", sentence=sentence))
        except JobError as error:
            return Outcome(failure=error.failure)
        except Exception:
            print(f"task {attempt.task_id}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            sentence = "the executor failed; its log says more under this task's id"
            return Outcome(failure=Failure(code="INTERNAL_ERROR", sentence=sentence))

    async def _discard(self, task_id: str, remembered: Begun) -> None:
        if "begun" not in remembered:
            return
        try:
            await self._backend.discard(task_id, remembered["begun"])
        except Exception as error:
            print(f"task {task_id}: not discarded ({type(error).__name__})", file=sys.stderr, flush=True)

    async def _end_all(self, reason: Reason) -> None:
        ends = [asyncio.create_task(attempt.has_ended.wait()) for attempt in self._attempts.values()]
        for attempt in list(self._attempts.values()):
            attempt.end(reason)
        if ends:
            await asyncio.wait(ends, timeout=STOP_S)

    def _give_back(self) -> None:
        DBOS.destroy()
        self._standings.give_back()

    async def _watch(self) -> None:
        """DBOS tells the waiters of a cancelled task, and lets the work go on (reference/engine.md)."""
        while True:
            await asyncio.sleep(WATCH_S)
            seen = dict(self._attempts)
            with contextlib.suppress(Exception):  # a database that does not answer takes nothing away
                for task_id, standing in (await self._standings.of(seen) if seen else {}).items():
                    if standing == "dropped":
                        seen[task_id].end("cancelled")
                    elif standing != "ours":
                        seen[task_id].end("taken away")  # this machine was thought to be lost

    async def _tend(self) -> None:
        idle: set[str] = set()
        while True:
            await asyncio.sleep(TEND_S)
            with contextlib.suppress(Exception):
                await self._settle()
                idle = await self._adopt(idle)

    async def _settle(self) -> None:
        """Discards the video of a task that was cancelled while its outcome was on the way."""
        waiting = {task_id: begun for task_id, begun in self._unsettled.items() if task_id not in self._attempts}
        for task_id, standing in (await self._standings.of(waiting) if waiting else {}).items():
            if standing == "dropped":
                await self._discard(task_id, {"begun": waiting[task_id]})
            if standing != "ours":
                self._unsettled.pop(task_id, None)

    async def _adopt(self, idle_before: set[str]) -> set[str]:
        """A task that is this executor's and that nothing here works on goes back to the queue. Returns the idle ones.

        It is one that DBOS lost hold of: where a PostgreSQL host's name or socket is gone for a while, DBOS 3.4.0 takes
        that for no lost connection, and does not try to write an outcome again.
        """
        idle = await asyncio.to_thread(self._standings.ours) - self._attempts.keys()
        await asyncio.to_thread(self._standings.put_back, idle & idle_before)
        return idle

    async def _beat(self, beats: Heartbeats) -> None:
        while True:
            try:
                await asyncio.to_thread(beats.beat, self._id, self._about)
            except Exception as error:
                print(f"heartbeat: {type(error).__name__}", file=sys.stderr, flush=True)
            await asyncio.sleep(BEAT_S)
