"""The sha256 of model files: read once, between jobs, and known to the next worker."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wan_relay.service.worker.model_files import hashes as hashes_module
from wan_relay.service.worker.model_files.hashes import ModelHashes
from wan_relay.tests.service.worker.model_files.fake_hub import cached_repository
from wan_relay.tests.waiting import wait_until

MakeHashes = Callable[..., ModelHashes]


@pytest.fixture
def make_hashes(tmp_path: Path) -> Iterator[MakeHashes]:
    made: list[ModelHashes] = []

    def make(reads: bool = True, file: Path = tmp_path / "kept" / "hashes.json") -> ModelHashes:
        made.append(ModelHashes(file, tmp_path / "loras" / "files", reads))
        return made[-1]

    yield make
    for hashes in made:
        hashes.stop()


def put(path: Path, content: bytes) -> tuple[Path, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def wait_for(hashes: ModelHashes, *paths: Path) -> dict[Path, str]:
    wait_until(lambda: len(hashes.known(paths)) == len(paths))
    return hashes.known(paths)


def test_a_file_is_read_once_for_all_workers(
    tmp_path: Path, make_hashes: MakeHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes_module, "CHUNK", 1000)
    files = dict(put(tmp_path / name, os.urandom(size)) for name, size in (("a", 2500), ("b", 2000), ("c", 0)))
    first = make_hashes()
    assert first.known([*files, tmp_path / "gone"]) == {}
    first.want([*files, tmp_path / "gone"])
    assert wait_for(first, *files) == files
    kept = tmp_path / "kept" / "hashes.json"
    wait_until(lambda: kept.exists() and len(json.loads(kept.read_bytes())) == 3)
    assert make_hashes(reads=False).known(files) == files
    assert sorted(path.name for path in kept.parent.iterdir()) == ["hashes.json"], "no partial file"


def test_a_file_that_changed_is_another(tmp_path: Path, make_hashes: MakeHashes) -> None:
    path, old = put(tmp_path / "a", b"1234")
    hashes = make_hashes()
    hashes.want([path])
    assert wait_for(hashes, path) == {path: old}
    os.utime(path, ns=(1, 1))
    assert hashes.known([path]) == {}
    _, new = put(tmp_path / "a", b"5678")
    assert hashes.known([path]) == {}
    hashes.want([path])
    assert wait_for(hashes, path) == {path: new}


def test_a_file_that_changes_while_it_is_read_is_not_known(
    tmp_path: Path, make_hashes: MakeHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = put(tmp_path / "a", b"1234")
    other, sha256 = put(tmp_path / "b", b"5678")
    read = ModelHashes._read

    def replaced(hashes: ModelHashes, which: Path) -> str | None:
        found = read(hashes, which)
        if which == path:
            put(path, b"12345")
        return found

    monkeypatch.setattr(ModelHashes, "_read", replaced)
    hashes = make_hashes()
    hashes.want([path])
    hashes.want([other])
    assert wait_for(hashes, other) == {other: sha256}
    assert hashes.known([path]) == {}
    assert list(json.loads((tmp_path / "kept" / "hashes.json").read_bytes()).values()) == [sha256]


def test_nothing_is_read_while_a_job_runs(tmp_path: Path, make_hashes: MakeHashes) -> None:
    path, sha256 = put(tmp_path / "a", b"1234")
    hashes = make_hashes()

    async def job() -> None:
        async with hashes.paused():
            hashes.want([path])
            await asyncio.sleep(0.2)
            assert hashes.known([path]) == {}

    asyncio.run(job())
    assert wait_for(hashes, path) == {path: sha256}


def test_a_long_file_waits_for_a_job_in_its_middle(
    tmp_path: Path, make_hashes: MakeHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes_module, "CHUNK", 1)
    path, sha256 = put(tmp_path / "a", bytes(3_000_000))
    hashes = make_hashes()
    hashes.want([path])

    async def job() -> None:
        async with hashes.paused():
            await asyncio.sleep(3)
            assert hashes.known([path]) == {}

    asyncio.run(job())
    monkeypatch.undo()
    hashes.stop()
    again = make_hashes()
    again.want([path])
    assert wait_for(again, path) == {path: sha256}


def test_stopping_ends_a_reader_that_waits(tmp_path: Path, make_hashes: MakeHashes) -> None:
    path, _ = put(tmp_path / "a", b"1234")
    hashes = make_hashes()

    async def job() -> None:
        async with hashes.paused():
            hashes.want([path])
            hashes.stop()

    asyncio.run(job())
    assert hashes.known([path]) == {}
    hashes.want([path])
    assert hashes.known([path]) == {}


def test_names_that_are_sha256_are_believed_where_they_are(tmp_path: Path, make_hashes: MakeHashes) -> None:
    snapshot = cached_repository(tmp_path / "hub", "a/b", {"x.safetensors": b"1"})
    lora, sha256 = put(tmp_path / "loras" / "files" / "new", b"lora")
    lora = lora.rename(lora.with_name(f"{sha256}.safetensors"))
    small = snapshot.parents[1] / "blobs" / ("1" * 40)  # a file that is not LFS is named by git's sha1
    small.write_bytes(b"2")
    (snapshot / "small.pt").symlink_to(small)
    stray, _ = put(tmp_path / ("2" * 64), b"3")
    beside, _ = put(tmp_path / "models--a--b" / "other" / ("3" * 64), b"4")
    shown = tmp_path / "links" / "x.safetensors"
    shown.parent.mkdir()
    shown.symlink_to(snapshot / "x.safetensors")
    known = make_hashes(reads=False).known([shown, lora, snapshot / "small.pt", stray, beside])
    assert known == {shown: hashlib.sha256(b"1").hexdigest(), lora: sha256}


def test_without_reading(tmp_path: Path, make_hashes: MakeHashes) -> None:
    path, _ = put(tmp_path / "a", b"1234")
    hashes = make_hashes(reads=False)
    hashes.want([path])
    time.sleep(0.2)
    assert hashes.known([path]) == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1, "b": "x"}', b"\xff"])
def test_a_damaged_record_costs_reading_alone(tmp_path: Path, make_hashes: MakeHashes, content: bytes) -> None:
    record, _ = put(tmp_path / "kept" / "hashes.json", content)
    path, sha256 = put(tmp_path / "a", b"1234")
    hashes = make_hashes()
    hashes.want([path])
    assert wait_for(hashes, path) == {path: sha256}
    wait_until(lambda: record.read_bytes() != content)
    assert list(json.loads(record.read_bytes()).values()) == [sha256]


def test_a_record_that_cannot_be_written_is_in_memory(
    tmp_path: Path, make_hashes: MakeHashes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path, sha256 = put(tmp_path / "a", b"1234")
    hashes = make_hashes(file=tmp_path / "file" / "hashes.json")
    hashes.want([path])
    assert wait_for(hashes, path) == {path: sha256}
    hashes.stop()
    assert capfd.readouterr().err == "model hashes | hashes.json: File exists\n"
