"""A video's way into a store that is full, away, or back again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.executors import result
from wan_relay.service.executors.result import draw, keep, remove
from wan_relay.service.store.object_store import StoredObject, StoreError, StoreFullError, StoreUnavailableError
from wan_relay.service.store.open_store import open_store
from wan_relay.service.tasks.task import Order, Video

BEGUN = {"seed": 1, "name": "0123456789ab"}
AWAY = StoreUnavailableError("the object store does not answer")


class Store:
    """Raises what it is told to, one after the other, before it takes a file."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken: dict[str, Any] = {}

    async def put(self, key: str, content: bytes, content_type: str) -> StoredObject:
        if self.errors:
            raise self.errors.pop(0)
        self.taken[key] = content
        return StoredObject(key, len(content), content_type, 0.0, '"x"')


def kept(store: Store, limit_s: float) -> Video:
    return asyncio.run(keep(store, "t", BEGUN, ".mp4", lambda: b"video", "video/mp4", limit_s))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "FIRST_PAUSE_S", 0.01)


def test_a_store_that_comes_back_gets_the_video() -> None:
    store = Store(AWAY, AWAY, AWAY)
    assert kept(store, 60) == Video(key="results/t/0123456789ab.mp4", size=5)
    assert store.taken == {"results/t/0123456789ab.mp4": b"video"}


@pytest.mark.parametrize(
    ("error", "limit_s", "said"),
    [
        (AWAY, 0, "STORE_UNAVAILABLE: the object store does not answer"),
        (StoreFullError("the object store is full"), 60, "STORE_FULL: the object store is full"),
        (StoreError("something else"), 60, "STORE_UNAVAILABLE: something else"),
    ],
)
def test_a_store_that_does_not_take_it(error: Exception, limit_s: float, said: str) -> None:
    store = Store(error)
    with pytest.raises(JobError) as raised:
        kept(store, limit_s)
    assert (str(raised.value), store.taken) == (said, {})


def test_what_is_drawn_once() -> None:
    def drawn(**request: Any) -> dict[str, Any]:
        return draw(Order(dialect="test", owner="me", request=request, retention_s=1))

    assert drawn(seed=7)["seed"] == 7
    seeds = {drawn(seed=-1)["seed"], drawn()["seed"], drawn()["seed"]}
    assert len(seeds) == 3
    assert all(0 <= seed <= 2**53 - 1 for seed in seeds)
    assert len({drawn()["name"] for _ in range(3)}) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_what_is_discarded_is_gone(tmp_path: Path, suffix: str) -> None:
    async def main() -> list[str]:
        store = open_store(str(tmp_path))
        for task_id in ("t", "another"):
            await keep(store, task_id, BEGUN, suffix, lambda: b"video", "video/mp4", 60)
        await remove(store, "t", BEGUN)
        await remove(store, "t", BEGUN)
        return [stored.key async for stored in store.list("results")]

    assert asyncio.run(main()) == [f"results/another/0123456789ab{suffix}"]
