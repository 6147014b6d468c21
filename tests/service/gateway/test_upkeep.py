"""Ages by a steady clock, deadlines, and who counts as lost."""

import asyncio
import time
from pathlib import Path
from typing import Any

from wan_relay.service.contract.failure import Failure
from wan_relay.service.gateway.upkeep import Ages, Upkeep
from wan_relay.service.store.local_folder import LocalFolder
from wan_relay.service.tasks.heartbeats import MAX_LOOK_S, Executor, Watch
from wan_relay.service.tasks.task import Order, Task


def task(task_id: str, at_s: float, **order: Any) -> Task:
    ordered = Order(dialect="api", owner="a", request={}, retention_s=1, **order)
    return Task(id=task_id, state="queued", order=ordered, created_at_s=at_s)


def test_ages_follow_no_clock_that_is_set() -> None:
    wall, steady = [1000.0], [50.0]
    ages = Ages(lambda: wall[0], lambda: steady[0])
    old, new = task("old", 990.0), task("new", 1000.0)
    assert ages.see([old, new]) == {"old": 10.0, "new": 0.0}
    wall[0] += 3600
    steady[0] += 2
    assert ages.see([old, new]) == {"old": 12.0, "new": 2.0}
    wall[0] -= 7200
    steady[0] += 1
    assert ages.see([new, task("future", 990.0 + 7200)]) == {"new": 3.0, "future": 0.0}


def test_a_task_that_is_queued_again_is_as_old_as_its_new_order() -> None:
    ages = Ages(lambda: 1000.0, lambda: 50.0)
    assert ages.see([task("a", 940.0)]) == {"a": 60.0}
    assert ages.see([task("a", 999.0, attempt=1)]) == {"a": 1.0}


def seen(watch: Watch, **beats: int) -> tuple[list[str], list[str]]:
    alive, silent = watch.see([Executor(name, count, {}) for name, count in beats.items()])
    return [executor.id for executor in alive], [executor.id for executor in silent]


def test_a_heart_that_stands_still_is_silent() -> None:
    now = [0.0]
    watch = Watch(5.0, lambda: now[0])
    for beat in range(3):
        assert seen(watch, a=beat, b=7) == (["a", "b"], [])
        now[0] += 2
    assert seen(watch, a=3, b=7) == (["a"], ["b"])
    assert watch.ages_s() == {"a": 0.0, "b": 6.0}
    assert seen(watch, a=4, b=8) == (["a", "b"], [])


def test_time_in_which_nobody_looked_counts_for_nobody() -> None:
    now = [0.0]
    watch = Watch(5.0, lambda: now[0])
    assert seen(watch, a=1) == (["a"], [])
    now[0] += MAX_LOOK_S + 1
    assert seen(watch, a=1) == (["a"], [])
    for _ in range(3):
        now[0] += 2
        last = seen(watch, a=1)
    assert last == ([], ["a"])


class Queue:
    """An engine and a board that hold these tasks, and note what is asked of them."""

    def __init__(self, *live: Task) -> None:
        self.live = list(live)
        self.ended: dict[str, Failure | None] = {}
        self.released: list[str] = []

    async def cancel(self, task_id: str, why: Failure | None = None) -> None:
        self.ended[task_id] = why

    async def release(self, task_id: str) -> None:
        self.released.append(task_id)

    async def get(self, task_ids: list[str]) -> list[Task]:
        return [task for task in self.live if task.id in task_ids]

    def put(self, task: Task) -> None:
        pass


class NoLimits:
    def limits_of(self, _: str) -> Any:
        return type("Limits", (), {"running": None})


def test_a_task_that_does_not_begin_in_time_is_ended(tmp_path: Path) -> None:
    now = time.time()
    queue = Queue(
        task("late", now - 31, start_deadline_s=30),
        task("early", now - 20, start_deadline_s=30),
        task("patient", now - 5000),
        task("runs", now - 31, start_deadline_s=30).model_copy(update={"state": "running"}),
        task("held", now - 31, start_deadline_s=30).model_copy(update={"state": "throttled"}),
    )
    upkeep = Upkeep("g", queue, queue, NoLimits(), None, LocalFolder(tmp_path / "store"), 10**9, 12.0)
    asyncio.run(upkeep.keep_to_limits())
    late = Failure(code="TIMEOUT", sentence="the task did not begin within the 30 s that it was given")
    assert queue.ended == {"late": late, "held": late}
    assert queue.released == ["held"]
