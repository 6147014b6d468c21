"""Objects as files: whole or not there, whatever happens to the disk, the folder or the writer."""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from wan_relay.service.store.object_store import (
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from wan_relay.service.store.open_store import open_store

ROOT = Path(__file__).resolve().parents[3]
KEY = "results/1/a.mp4"
PART = 3_000_000


@contextlib.contextmanager
def small_disk(folder: Path, options: str = "size=4m") -> Iterator[Path]:
    """A disk of 4 MB at the folder, which takes the rights to mount one."""
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def pieces(count: int, mark: bytes = b"1", pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield mark * PART
        await asyncio.sleep(pause_s)


@pytest.mark.asyncio
async def test_a_full_disk_keeps_what_it_has_and_no_part_of_what_came(tmp_path: Path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(4 * PART))
    with small_disk(tmp_path / "disk") as disk:
        store = open_store(str(disk))
        await store.put(KEY, bytes(1_000_000), "video/mp4")
        for key in (KEY, "results/2/b.mp4"):
            for content in (bytes(4_000_000), bytes(4 * PART), large, pieces(2), pieces(6)):
                with pytest.raises(StoreFullError) as raised:
                    await store.put(key, content, "video/mp4")
                assert raised.value.sentence == "the object store is full"
                assert files(disk) == [KEY]
        assert await store.get(KEY) == bytes(1_000_000)
        await store.delete(KEY)
        await store.put(KEY, bytes(3_500_000), "video/mp4")
        assert (await store.stat(KEY)).size == 3_500_000


def run_beside(code: str) -> str:
    """What a process of its own prints, which must end well."""
    preamble = f"""
import asyncio, importlib.util, resource, sys
spec = importlib.util.spec_from_file_location("wan_relay_dev", {str(ROOT / "dev.py")!r})
dev = importlib.util.module_from_spec(spec)
sys.modules["wan_relay_dev"] = dev
spec.loader.exec_module(dev)
dev.register_package()
from wan_relay.service.store.object_store import StoreError
from wan_relay.service.store.open_store import open_store
"""
    done = subprocess.run([sys.executable, "-c", preamble + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_may_end_right_after_its_last_file(tmp_path: Path):
    """Without the wait at its end, each of the eight is aborted with a chance of one to four."""
    code = f"""
async def main():
    store = open_store({str(tmp_path)!r})
    await store.put("a.mp4", bytes(1_000_000), "video/mp4")
    print(sum([len(piece) async for piece in store.read("a.mp4")]))

asyncio.run(main())
"""
    assert [run_beside(code) for _ in range(8)] == ["1000000\n"] * 8


def test_a_limit_on_file_sizes_is_a_full_store(tmp_path: Path):
    code = f"""
async def main():
    store = open_store({str(tmp_path / "store")!r})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    for size in (2_000_000, 20_000_000):
        try:
            await store.put("a.mp4", bytes(size), "video/mp4")
        except StoreError as error:
            print(type(error).__name__)
    await store.put("b.mp4", bytes(1_000_000), "video/mp4")

asyncio.run(main())
"""
    assert run_beside(code) == "StoreFullError\nStoreFullError\n"
    assert files(tmp_path / "store") == ["b.mp4"]


@pytest.mark.asyncio
async def test_a_disk_that_takes_no_writes_is_said(tmp_path: Path):
    with small_disk(tmp_path / "disk") as disk:
        store = open_store(str(disk))
        await store.put(KEY, b"1", "video/mp4")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for key in (KEY, "results/2/b.mp4"):
            with pytest.raises(StoreUnavailableError) as raised:
                await store.put(key, b"2", "video/mp4")
            assert raised.value.sentence == "the object store does not let the gateway in"
        assert await store.get(KEY) == b"1"


@pytest.mark.asyncio
async def test_a_folder_that_goes_is_missed_and_works_again_when_it_is_back(tmp_path: Path):
    folder, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    store = open_store(str(folder))
    stored = await store.put(KEY, b"1", "video/mp4")
    for _ in range(2):
        folder.rename(elsewhere)
        works = [store.put(KEY, b"2", "video/mp4"), store.stat(KEY), store.get(KEY), store.delete(KEY), store.check()]
        works += [anext(store.read(KEY)), anext(store.list()), anext(store.list("results")), store.remove_leftovers(0)]
        for work in works:
            with pytest.raises(StoreUnavailableError) as raised:
                await work
            assert raised.value.sentence == "the object store's folder is gone"
        assert not folder.exists()
        elsewhere.rename(folder)
        assert await store.stat(KEY) == stored
        await store.check()


@pytest.mark.asyncio
async def test_a_file_in_the_place_of_the_folder_is_no_store(tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "store").rmdir()
    (tmp_path / "store").touch()
    for work in (store.put(KEY, b"2", "video/mp4"), store.check(), anext(store.list())):
        with pytest.raises(StoreUnavailableError):
            await work


@pytest.mark.asyncio
async def test_a_key_inside_another_is_refused(tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    await store.put(KEY, b"1", "video/mp4")
    for key in (f"{KEY}/inside.mp4", "results/1"):
        with pytest.raises(StoreError) as raised:
            await store.put(key, b"2", "video/mp4")
        assert raised.value.sentence == ("a part of the key is already the name of a file, or the key that of a folder")
    assert files(tmp_path / "store") == [KEY]


@pytest.mark.asyncio
async def test_a_reader_sees_one_whole_object_or_the_next(tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    await store.put(KEY, b"0" * PART * 4, "video/mp4")

    async def write() -> None:
        for number in itertools.count():
            await store.put(KEY, pieces(4, str(number % 10).encode()), "video/mp4")

    writing = asyncio.create_task(write())
    seen: set[bytes] = set()
    while len(seen) < 4:
        content = await store.get(KEY)
        assert len(content) == PART * 4
        assert content == content[:1] * len(content)
        seen.add(content[:1])
        assert [stored.key async for stored in store.list()] == [KEY]
        assert not writing.done()
    writing.cancel()


@pytest.mark.asyncio
async def test_a_writer_that_is_cancelled_leaves_nothing(tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    writing = asyncio.create_task(store.put(KEY, pieces(1000, pause_s=0.05), "video/mp4"))
    await until(lambda: files(tmp_path / "store") != [])
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await until(lambda: files(tmp_path / "store") == [])


@pytest.mark.asyncio
async def test_a_writer_that_is_killed_leaves_no_object_and_its_rest_is_removed(tmp_path: Path):
    folder = tmp_path / "store"
    store = open_store(str(folder))
    code = f"""
import asyncio, obstore
from obstore.store import LocalStore

async def pieces():
    while True:
        yield bytes({PART})
        await asyncio.sleep(0.05)

async def main():
    await obstore.put_async(LocalStore({str(folder)!r}), {KEY!r}, pieces(), chunk_size=1_000_000, max_concurrency=1)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            await until(lambda: any(path.stat().st_size for path in folder.rglob("*.mp4#*")))
        finally:
            process.kill()
    assert files(folder) != []
    assert [stored async for stored in store.list()] == []
    with pytest.raises(ObjectNotFoundError):
        await store.get(KEY)
    await store.remove_leftovers(3600)
    assert files(folder) != []
    await asyncio.sleep(0.01)
    await store.remove_leftovers(0)
    assert files(folder) == []
    await store.put(KEY, b"1", "video/mp4")


@pytest.mark.asyncio
async def test_two_hundred_readers_at_once_and_a_deletion_amid_them(tmp_path: Path):
    store: ObjectStore = open_store(str(tmp_path / "store"))
    content = os.urandom(1_500_000)
    await store.put(KEY, content, "video/mp4")
    begun = asyncio.Barrier(201)

    async def read(start: int) -> bool:
        found = b""
        async for piece in store.read(KEY, start):
            if not found:
                await begun.wait()
            found += piece
        return found == content[start:]

    readers = [asyncio.create_task(read(number)) for number in range(200)]
    await asyncio.wait_for(begun.wait(), 120)
    await store.delete(KEY)
    assert all(await asyncio.gather(*readers))
    with pytest.raises(ObjectNotFoundError):
        await store.get(KEY)


@pytest.mark.asyncio
async def test_writers_and_removers_of_one_folder_do_not_disturb_each_other(tmp_path: Path):
    """The last object's folder goes with it, while another is written there."""
    store = open_store(str(tmp_path / "store"))

    async def churn(number: int) -> None:
        for _ in range(40):
            await store.put(f"results/1/{number}.mp4", b"1", "video/mp4")
            await store.delete(f"results/1/{number}.mp4")

    await asyncio.gather(*[churn(number) for number in range(8)])
    await store.remove_leftovers(-1)
    assert list((tmp_path / "store").iterdir()) == []


async def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
