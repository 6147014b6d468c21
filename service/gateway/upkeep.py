"""What the gateway does by itself: finds lost executors, lets held tasks go, ends late ones, and clears what is old."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from ..contract.failure import Failure
from ..store.object_store import ObjectStore
from ..store.room import make_room
from ..tasks.heartbeats import BEAT_S, Executor, Heartbeats, Watch
from ..tasks.names import GATEWAY_QUEUE
from ..tasks.task import Task
from .board import Board
from .engine import Engine
from .journal import note, trace, warn
from .keys import Keys
from .limits import to_release

CLEAN_S = 120.0
KEYS_S = 2.0
ORPHAN_S = 600.0
UPLOAD_S = 2 * 24 * 3600.0
RECORD_S = 30 * 24 * 3600.0
PAGE = 200


class Upkeep:
    """`run` goes on until it is cancelled; one that fails is said and tried again."""

    def __init__(
        self,
        gateway_id: str,
        engine: Engine,
        board: Board,
        keys: Keys,
        heartbeats: Heartbeats,
        store: ObjectStore,
        max_store_bytes: int,
        silent_s: float,
    ) -> None:
        self._gateway_id = gateway_id
        self._engine = engine
        self._board = board
        self._keys = keys
        self._heartbeats = heartbeats
        self._store = store
        self._max_store_bytes = max_store_bytes
        self._watch = Watch(silent_s)
        self._ages = Ages()
        self.executors: list[Executor] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_forever(self.beat, BEAT_S))
            group.create_task(_forever(self.recover_lost, BEAT_S))
            group.create_task(_forever(self.keep_to_limits, 0.5))
            group.create_task(_forever(self.read_keys, KEYS_S))
            group.create_task(_forever(self.clean_up, CLEAN_S))

    async def beat(self) -> None:
        """A gateway's own work, its webhooks, is recovered by others as a task is."""
        await asyncio.to_thread(self._heartbeats.beat, self._gateway_id, {"queue": GATEWAY_QUEUE})

    async def recover_lost(self) -> None:
        """Work of executors and gateways that are silent, or have left, goes to others."""
        # Asked before the hearts: whoever took something beat before.
        holders = {task.executor for task in self._board.live if task.state == "running" and task.executor}
        holders |= await self._engine.tellers()
        alive, silent = self._watch.see(await asyncio.to_thread(self._heartbeats.all))
        self.executors = [executor for executor in alive if executor.about.get("queue") != GATEWAY_QUEUE]
        lost = holders - {executor.id for executor in alive}
        if lost:
            number = await self._engine.recover(sorted(lost))
            warn("lost", executors=", ".join(sorted(lost)), num_recovered=number)
        for executor in silent:
            await asyncio.to_thread(self._heartbeats.leave, executor.id)

    def executor_ages_s(self) -> dict[str, float]:
        """Of each living executor, how long its heartbeat has stood still."""
        ages = self._watch.ages_s()
        return {executor.id: ages[executor.id] for executor in self.executors if executor.id in ages}

    async def keep_to_limits(self) -> None:
        live = self._board.live
        for task in to_release(live, lambda owner: self._keys.limits_of(owner).running):
            await self._engine.release(task.id)
        ages = self._ages.see(live)
        for task in live:
            start_s = task.order.start_deadline_s
            if start_s is not None and task.state in ("queued", "throttled") and ages[task.id] > start_s:
                sentence = f"the task did not begin within the {start_s:g} s that it was given"
                await self._engine.cancel(task.id, Failure(code="TIMEOUT", sentence=sentence))
            end_s = task.order.end_deadline_s
            if end_s is not None and ages[task.id] > end_s:
                sentence = f"the task did not end within the {end_s:g} s that it was given"
                await self._engine.cancel(task.id, Failure(code="TIMEOUT", sentence=sentence))
        for task in await self._engine.get([t.id for t in live if t.state == "throttled"]):
            self._board.put(task)

    async def read_keys(self) -> None:
        await asyncio.to_thread(self._keys.refresh)

    async def clean_up(self) -> None:
        """Files past their time, files of no task, old records, and the oldest of a store that is too full."""
        now = time.time()
        keys = [
            stored.key
            async for stored in self._store.list()
            if now - stored.modified_s > ORPHAN_S
            and not await self._is_wanted_upload(stored.key, stored.modified_s, now)
        ]
        by_task: dict[str, list[str]] = {}
        for key in keys:
            by_task.setdefault(key.split("/")[1] if "/" in key else "", []).append(key)
        ids, num_removed = list(by_task), 0
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            known = {task.id: task for task in await self._engine.get(page)}
            for task_id in page:
                task = known.get(task_id)
                for key in by_task[task_id]:
                    if task is None or task.is_removed(now):
                        await self._store.delete(key)
                        num_removed += 1
        old = await self._engine.ended_before(now - RECORD_S, PAGE)
        await self._engine.delete_all_of(old)
        for task in old:
            self._board.forget(task.id)
        cleared = await make_room(self._store, self._max_store_bytes)
        if num_removed + len(old) + len(cleared):
            note("clean_up", num_files=num_removed, num_records=len(old), num_files_for_room=len(cleared))

    async def _is_wanted_upload(self, key: str, modified_s: float, now: float) -> bool:
        return key.startswith("uploads/") and now - modified_s < UPLOAD_S


class Ages:
    """Seconds since tasks were ordered, however the clock that they were ordered by has been set since."""

    def __init__(
        self, clock: Callable[[], float] = time.time, steady_clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._steady_clock = steady_clock
        self._ordered_at: dict[tuple[str, int], float] = {}

    def see(self, live: Iterable[Task]) -> dict[str, float]:
        """Of all live tasks, which must be all that there are."""
        now, before = self._steady_clock(), self._ordered_at
        self._ordered_at = {
            (key := (task.id, task.order.attempt)): before.get(key, now - max(0.0, self._clock() - task.created_at_s))
            for task in live
        }
        return {task_id: now - ordered_at for (task_id, _), ordered_at in self._ordered_at.items()}


async def _forever(work: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            warn("upkeep", work=work.__name__, error=trace(error))
        await asyncio.sleep(every_s)
