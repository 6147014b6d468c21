"""The folder of downloaded LoRAs: what stays, what goes, and what two workers may do to each other."""

import asyncio
import fcntl
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from wan_relay.service.worker.url_loras.cache import HeldFile, Known, LoraCache
from wan_relay.tests.service.worker.url_loras.lora_server import lora, sha256

SIZE = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LoraCache(tmp_path, 0).make_folders()
    return tmp_path


def url(seed: int) -> str:
    return f"https://example.com/{seed}.safetensors"


def store(cache: LoraCache, seed: int, used_at: float | None = None) -> HeldFile:
    """Downloads, as it were, and holds; `used_at` is when it was asked for."""

    async def main() -> HeldFile:
        content = lora(seed, SIZE)
        async with cache.entry(url(seed)) as entry:
            with cache.partial() as partial:
                partial.write(content)
                entry.remember(Known(sha256=sha256(content), num_bytes=len(content), etag=str(seed)))
                return cache.keep(partial, sha256(content))

    held = asyncio.run(main())
    if used_at is not None:
        [record] = [path for path in (cache.files.parent / "urls").iterdir() if f'"etag":"{seed}"' in path.read_text()]
        os.utime(record, (used_at, used_at))
    return held


def hold(cache: LoraCache, seed: int) -> HeldFile | None:
    async def main() -> HeldFile | None:
        async with cache.entry(url(seed)) as entry:
            return entry.hold()

    return asyncio.run(main())


def names(cache: LoraCache) -> set[int]:
    """The seeds of the files that are there."""
    return {path.read_bytes()[-1] for path in cache.files.iterdir()}


def others(folder: Path) -> dict[str, int]:
    return {name: len(list((folder / name).iterdir())) for name in ("urls", "partial")}


def test_a_file_is_named_by_its_content_and_found_by_its_url(folder: Path) -> None:
    cache = LoraCache(folder, 10**6)
    store(cache, 1).release()
    assert [path.name for path in cache.files.iterdir()] == [f"{sha256(lora(1, SIZE))}.safetensors"]
    again = hold(LoraCache(folder, 10**6), 1)
    assert again is not None
    assert again.path.read_bytes() == lora(1, SIZE)
    again.release()
    assert hold(cache, 2) is None
    assert others(folder) == {"urls": 1, "partial": 0}, "a URL that led to nothing is forgotten"


def test_two_urls_of_one_content_share_its_file(folder: Path) -> None:
    cache, content = LoraCache(folder, 10**6), lora(1, SIZE)
    for _ in range(2):
        with cache.partial() as partial:
            partial.write(content)
            cache.keep(partial, sha256(content))
    assert len(list(cache.files.iterdir())) == 1
    assert others(folder)["partial"] == 0


def test_those_that_were_used_longest_ago_go_first(folder: Path) -> None:
    cache = LoraCache(folder, 3 * len(lora(1, SIZE)))
    for seed, used_at in ((1, 300.0), (2, 100.0), (3, 200.0)):
        store(cache, seed, used_at).release()
    cache.make_room()
    assert names(cache) == {1, 2, 3}
    cache.make_room(1)
    assert names(cache) == {1, 3}
    second = hold(cache, 3)
    assert second is not None, "asked for again, it is the newest"
    second.release()
    cache.make_room(len(lora(1, SIZE)) + 1)
    assert names(cache) == {3}
    assert others(folder) == {"urls": 2, "partial": 0}, (
        "the URL of a file that is gone is forgotten at the next clearing"
    )
    cache.make_room()
    assert others(folder) == {"urls": 1, "partial": 0}


def test_what_a_job_holds_stays_whatever_the_cap(folder: Path) -> None:
    """Also for another worker on the same folder."""
    cache, other = LoraCache(folder, 1), LoraCache(folder, 1)
    first, second = store(cache, 1, 100.0), store(cache, 2, 200.0)
    again = hold(other, 1)
    assert again is not None
    for keeper in (cache, other):
        keeper.make_room(10**6)
        assert names(cache) == {1, 2}
    first.release()
    second.release()
    other.make_room()
    assert names(cache) == {1}, "two held it, and one still does"
    again.release()
    again.release()
    cache.make_room()
    assert names(cache) == set()


def test_the_disk_keeps_what_it_must_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(lora(1, SIZE))
    cache = LoraCache(folder, 10**9, min_free_bytes=500)

    def disk_usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=3 * size - sum(file.stat().st_size for file in path.iterdir()))

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    for seed in (1, 2):
        store(cache, seed, 100.0 * seed).release()
    cache.make_room(size - 500)
    assert names(cache) == {1, 2}
    cache.make_room(size - 499)
    assert names(cache) == {2}
    held = hold(cache, 2)
    assert held is not None
    with pytest.raises(OSError, match="No space left"):
        cache.make_room(2 * size)
    assert names(cache) == {2}
    held.release()


def test_a_file_that_is_not_whole_is_no_file(folder: Path) -> None:
    cache = LoraCache(folder, 10**6)
    held = store(cache, 1)
    held.release()
    held.path.write_bytes(b"cut")
    assert hold(cache, 1) is None
    store(cache, 1).release()
    assert held.path.read_bytes() == lora(1, SIZE)


def test_a_record_that_cannot_be_read_counts_for_nothing(folder: Path) -> None:
    cache = LoraCache(folder, 10**6)
    store(cache, 1).release()
    [record] = (folder / "urls").iterdir()
    for text in ("", "{", '{"sha256": "../../etc/passwd", "num_bytes": 1}', "\udcff"):
        record.write_bytes(text.encode(errors="surrogateescape"))
        cache.make_room()
        assert hold(cache, 1) is None
        assert not record.exists()


def test_what_a_dead_process_left_is_swept_and_a_running_download_is_not(folder: Path) -> None:
    cache = LoraCache(folder, 10**6)
    (folder / "partial" / "left").write_bytes(b"half a file")
    with cache.partial() as partial:
        LoraCache(folder, 10**6).make_room()
        assert [path.name for path in (folder / "partial").iterdir()] == [Path(partial.name).name]
    assert others(folder)["partial"] == 0


def test_one_asks_for_a_url_at_a_time(folder: Path) -> None:
    """Also where each has opened the record before it is there, or while it goes."""
    cache, order = LoraCache(folder, 10**6), list[str]()

    async def ask(name: str) -> None:
        async with cache.entry(url(1)):
            order.append(f"{name} begins")
            await asyncio.sleep(0.05)
            order.append(f"{name} ends")

    async def main() -> None:
        await asyncio.gather(*(ask(name) for name in "abc"))

    asyncio.run(main())
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert all(begin.split()[0] == end.split()[0] for begin, end in pairs)
    assert len(pairs) == 3


def test_the_folder_has_a_new_time_whenever_a_file_is_held(folder: Path) -> None:
    """By whole seconds too, since ComfyUI lists it again only then."""
    cache, times = LoraCache(folder, 10**6), list[int]()
    for ask in (store, hold, hold, store):
        held = ask(cache, 1)
        assert held is not None
        held.release()
        times.append(cache.files.stat().st_mtime_ns // 10**9)
    assert len(set(times)) == len(times)


def test_without_locks_nothing_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    cache = LoraCache(folder, 1)
    store(cache, 1).release()
    cache.make_room()
    assert names(cache) == {1}
