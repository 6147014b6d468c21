"""What the gateway does by itself: finds lost executors, lets held tasks go, ends late ones, and clears what is old."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from ..contract.failure import Failure
from ..store.object_store import ObjectStore
from ..store.room import make_room
from ..tasks.heartbeats import BEAT_S, Executor, Heartbeats, Watch
from .board import Board
from .engine import Engine
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
        self, engine: Engine, board: Board, keys: Keys, heartbeats: Heartbeats, store: ObjectStore, max_store_bytes: int
    ) -> None:
        self._engine = engine
        self._board = board
        self._keys = keys
        self._heartbeats = heartbeats
        self._store = store
        self._max_store_bytes = max_store_bytes
        self._watch = Watch()
        self.executors: list[Executor] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_forever(self.recover_lost, BEAT_S))
            group.create_task(_forever(self.keep_to_limits, 0.5))
            group.create_task(_forever(self.read_keys, KEYS_S))
            group.create_task(_forever(self.clean_up, CLEAN_S))

    async def recover_lost(self) -> None:
        """Tasks of executors that are silent, or have left, go to others."""
        self.executors, silent = self._watch.see(await asyncio.to_thread(self._heartbeats.all))
        alive = {executor.id for executor in self.executors}
        holders = {task.executor for task in self._board.live if task.state == "running" and task.executor}
        lost = ({executor.id for executor in silent} | holders) - alive
        if lost & holders:
            number = await self._engine.recover(sorted(lost & holders))
            names = ", ".join(sorted(lost & holders))
            print(f"lost: {names}; {number} tasks went back to the queue", file=sys.stderr, flush=True)
        for executor in silent:
            await asyncio.to_thread(self._heartbeats.leave, executor.id)

    async def keep_to_limits(self) -> None:
        live = self._board.live
        for task in to_release(live, lambda owner: self._keys.limits_of(owner).running):
            await self._engine.release(task.id)
        now = time.time()
        for task in live:
            start_s = task.order.start_deadline_s
            if start_s is not None and task.state in ("queued", "throttled") and now - task.created_at_s > start_s:
                sentence = f"the task did not begin within the {start_s:g} s that it was given"
                await self._engine.cancel(task.id, Failure(code="TIMEOUT", sentence=sentence))
            end_s = task.order.end_deadline_s
            if end_s is not None and now - task.created_at_s > end_s:
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
        ids = list(by_task)
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            known = {task.id: task for task in await self._engine.get(page)}
            for task_id in page:
                task = known.get(task_id)
                for key in by_task[task_id]:
                    is_input = key.startswith("inputs/")
                    if task is None or task.is_removed(now) or (task.is_final and is_input):
                        await self._store.delete(key)
        old = await self._engine.ended_before(now - RECORD_S, PAGE)
        await self._engine.delete([task.id for task in old])
        for task in old:
            self._board.forget(task.id)
        await make_room(self._store, self._max_store_bytes)

    async def _is_wanted_upload(self, key: str, modified_s: float, now: float) -> bool:
        return key.startswith("uploads/") and now - modified_s < UPLOAD_S


async def _forever(work: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            print(f"{work.__name__}: {type(error).__name__}: {error}"[:300], file=sys.stderr, flush=True)
        await asyncio.sleep(every_s)
