"""The cap on a store."""

import os
import time
from pathlib import Path

import pytest
from wan_relay.service.store.object_store import ObjectStore
from wan_relay.service.store.open_store import open_store
from wan_relay.service.store.room import SAFE_S, make_room

HOUR_S = 3600.0


async def filled(folder: Path, ages_s: dict[str, float], size: int = 100) -> ObjectStore:
    store = open_store(str(folder))
    for key, age_s in ages_s.items():
        await store.put(key, bytes(size), "video/mp4")
        set_age(folder / key, age_s)
    return store


def set_age(path: Path, age_s: float) -> None:
    changed_s = time.time() - age_s
    os.utime(path, (changed_s, changed_s))


async def keys(store: ObjectStore) -> set[str]:
    return {stored.key async for stored in store.list()}


@pytest.mark.asyncio
async def test_the_oldest_go_until_the_rest_fits(tmp_path: Path):
    ages_s = {
        "results/a/v.mp4": 5 * HOUR_S,
        "inputs/b.png": 6 * HOUR_S,
        "results/c/v.mp4": HOUR_S,
        "inputs/d.png": 2 * HOUR_S,
    }
    store = await filled(tmp_path, ages_s)
    assert await make_room(store, 400) == []
    assert await make_room(store, 399) == ["inputs/b.png"]
    assert await make_room(store, 100) == ["results/a/v.mp4", "inputs/d.png"]
    assert await keys(store) == {"results/c/v.mp4"}
    assert await make_room(store, 0) == ["results/c/v.mp4"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.asyncio
async def test_young_objects_stay(tmp_path: Path):
    store = await filled(tmp_path, {"old.mp4": SAFE_S + 60, "young.mp4": SAFE_S - 60, "new.mp4": 0})
    assert await make_room(store, 0) == ["old.mp4"]
    assert await keys(store) == {"young.mp4", "new.mp4"}
    later_s = time.time() + 120
    assert await make_room(store, 0, clock=lambda: later_s) == ["young.mp4"]


@pytest.mark.asyncio
async def test_what_others_keep_in_the_folder_stays(tmp_path: Path):
    store = await filled(tmp_path, {"results/a.mp4": HOUR_S})
    for name in ("my notes.txt", "results/é.mp4"):
        (tmp_path / name).write_bytes(bytes(1000))
        set_age(tmp_path / name, 9 * HOUR_S)
    assert await make_room(store, 100) == []
    assert await make_room(store, 50) == ["results/a.mp4"]
    assert (tmp_path / "my notes.txt").is_file()
    assert (tmp_path / "results" / "é.mp4").is_file()


@pytest.mark.asyncio
async def test_what_killed_writers_left_goes_when_it_is_old(tmp_path: Path):
    store = await filled(tmp_path, {"results/a/v.mp4": HOUR_S})
    for name, age_s in (("results/a/v.mp4#1", HOUR_S), ("results/b/v.mp4#12", HOUR_S), ("results/c/v.mp4#1", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1000))
        set_age(tmp_path / name, age_s)
        set_age((tmp_path / name).parent, age_s)
    (tmp_path / "empty").mkdir()
    set_age(tmp_path / "empty", HOUR_S)
    assert await make_room(store, 1000) == []
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"results", "results/a", "results/a/v.mp4", "results/c", "results/c/v.mp4#1"}


@pytest.mark.asyncio
async def test_a_bucket_is_kept_under_its_cap_too(store):
    for number in range(3):
        await store.put(f"inputs/{number}.png", bytes(100), "image/png")
    later_s = time.time() + SAFE_S + 60
    assert len(await make_room(store, 150, clock=lambda: later_s)) == 2
    assert len(await keys(store)) == 1
