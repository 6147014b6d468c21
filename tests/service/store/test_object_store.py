"""What holds for every kind of store."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wan_relay.service.store.object_store import (
    InvalidKeyError,
    ObjectNotFoundError,
    ObjectStore,
    StoredObject,
    check_key,
    is_key,
)

KEY = "results/01J-task_1/Wan.2_2.mp4"
VIDEO = bytes(range(256)) * 4000
BIG = bytes(range(251)) * 60_000  # three parts

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "results/",
    "results//a.mp4",
    ".",
    "..",
    "results/../a.mp4",
    "results/..",
    "./a.mp4",
    "results/a b.mp4",
    "results/é.mp4",
    "results/a#1",
    "results\\a.mp4",
    "results/a.mp4\n",
    "results/\0",
    "results/%2e%2e/a",
    "a" * 201,
    "/".join(["a" * 100] * 3),
]


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def broken_off(content: bytes, size: int) -> AsyncIterator[bytes]:
    async for piece in in_pieces(content, size):
        yield piece
    raise ConnectionError("the client went away")


async def read(store: ObjectStore, key: str, *limits: int | None, etag: str | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(key, *limits, etag=etag)])


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted([stored.key async for stored in store.list(prefix)])


@pytest.mark.asyncio
async def test_what_was_put_comes_back(store):
    before_s = time.time()
    stored = await store.put(KEY, VIDEO, "video/mp4")
    assert stored == StoredObject(KEY, len(VIDEO), "video/mp4", stored.modified_s, stored.etag)
    assert before_s - 2 < stored.modified_s < time.time() + 2
    assert len(stored.etag) > 5
    assert stored.etag[0] == stored.etag[-1] == '"'
    assert await store.stat(KEY) == stored
    assert await store.get(KEY) == VIDEO
    assert await read(store, KEY) == VIDEO
    assert [found async for found in store.list()] == [stored]


@pytest.mark.asyncio
async def test_the_second_object_of_a_key_takes_the_place_of_the_first(store):
    first = await store.put(KEY, VIDEO, "video/mp4")
    second = await store.put(KEY, b"other", "video/mp4")
    assert await store.get(KEY) == b"other"
    assert second.etag != first.etag
    with pytest.raises(ObjectNotFoundError):
        await read(store, KEY, etag=first.etag)
    assert await read(store, KEY, etag=second.etag) == b"other"


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"", b"1", VIDEO, BIG], ids=len)
async def test_content_may_be_a_file_or_come_in_pieces(store, tmp_path, content):
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    for form in (content, path, in_pieces(content, 700_001)):
        assert (await store.put(KEY, form, "video/mp4")).size == len(content)
        assert await store.get(KEY) == content
        assert await read(store, KEY) == content


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [VIDEO, BIG], ids=len)
async def test_content_that_breaks_off_leaves_what_was_there(store, tmp_path, content):
    with pytest.raises(ConnectionError, match="went away"):
        await store.put(KEY, broken_off(content, 700_001), "video/mp4")
    with pytest.raises(FileNotFoundError):
        await store.put(KEY, tmp_path / "none.mp4", "video/mp4")
    assert await keys(store) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    await store.put(KEY, b"first", "video/mp4")
    with pytest.raises(ConnectionError, match="went away"):
        await store.put(KEY, broken_off(content, 700_001), "video/mp4")
    assert await store.get(KEY) == b"first"


@pytest.mark.asyncio
async def test_parts_are_read_alone(store):
    await store.put(KEY, VIDEO, "video/mp4")
    for start, end in ((0, 1), (1, 2), (5, 700_000), (len(VIDEO) - 1, len(VIDEO)), (10, None), (0, None)):
        assert await read(store, KEY, start, end) == VIDEO[start:end]
    assert await read(store, KEY, len(VIDEO) - 3, len(VIDEO) + 100) == VIDEO[-3:]
    for start, end in ((5, 5), (7, 5), (len(VIDEO), None), (len(VIDEO), len(VIDEO) + 5), (10**15, None)):
        assert await read(store, KEY, start, end) == b""


@pytest.mark.asyncio
async def test_a_large_object_comes_in_pieces(store):
    await store.put(KEY, BIG, "video/mp4")
    pieces = [piece async for piece in store.read(KEY)]
    assert b"".join(pieces) == BIG
    assert len(pieces) > 5
    assert all(isinstance(piece, bytes) for piece in pieces)


@pytest.mark.asyncio
async def test_what_is_not_there_is_not_found(store):
    await store.put(KEY, b"1", "video/mp4")
    for key in ("results", "results/01J-task_1", "results/none.mp4", f"{KEY}/inside.mp4"):
        with pytest.raises(ObjectNotFoundError) as raised:
            await store.stat(key)
        assert raised.value.sentence == "there is no such file, or no longer"
        for work in (store.get(key), read(store, key), read(store, key, 5, 6)):
            with pytest.raises(ObjectNotFoundError):
                await work
    assert await keys(store, "results/none") == []


@pytest.mark.asyncio
async def test_delete_takes_one_object_and_is_content_with_none(store):
    await store.put(KEY, b"1", "video/mp4")
    await store.put("results/01J-task_1/other.mp4", b"2", "video/mp4")
    for _ in range(2):
        await store.delete(KEY)
    assert await keys(store) == ["results/01J-task_1/other.mp4"]
    await store.delete("results/01J-task_1/other.mp4")
    assert await keys(store) == []


@pytest.mark.asyncio
async def test_list_goes_by_whole_segments(store):
    names = ["a.txt", "inputs/1/a.png", "results/ab/c.mp4", "results/abc/c.mp4", "results/ab/d/e.mp4"]
    for name in names:
        await store.put(name, name.encode(), "text/plain")
    assert await keys(store) == sorted(names)
    assert await keys(store, "results") == await keys(store, "results/") == sorted(names[2:])
    assert await keys(store, "results/ab") == ["results/ab/c.mp4", "results/ab/d/e.mp4"]
    assert await keys(store, "res") == []


@pytest.mark.asyncio
async def test_list_has_them_all(store):
    names = sorted(f"inputs/{number:04}.txt" for number in range(250))
    await asyncio.gather(*[store.put(name, b"", "text/plain") for name in names])
    assert await keys(store) == names


@pytest.mark.asyncio
async def test_check_leaves_nothing(store, tmp_path):
    await store.check()
    assert await keys(store) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.asyncio
async def test_bad_keys_reach_no_store(store):
    for key in BAD_KEYS:
        works = [store.put(key, b"", ""), store.stat(key), store.get(key), store.delete(key), read(store, key)]
        for work in works:
            with pytest.raises(InvalidKeyError):
                await work
    for prefix in ("..", "/etc/", "a b", "results/.."):
        with pytest.raises(InvalidKeyError):
            await keys(store, prefix)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_known(key: str):
    assert not is_key(key)
    with pytest.raises(InvalidKeyError, match=r"^a key must be at most 300 characters: .*\.$|'\.\.'$"):
        check_key(key)


@pytest.mark.parametrize("key", [KEY, "a", "...", "a..b", ".a", "-", "_", "a" * 200, "/".join(["a" * 99] * 3)])
def test_good_keys_are_taken(key: str):
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("name", "content_type", "served_as"),
    [
        ("a.png", "image/png", "image/png"),
        ("a.JPG", "image/jpeg", "image/jpeg"),
        ("a.webm", "video/webm", "video/webm"),
        ("a.html", "text/html", "application/octet-stream"),
        ("a.svg", "image/svg+xml", "application/octet-stream"),
        ("mp4", "video/mp4", "application/octet-stream"),
        ("a.png", "text/html", "image/png"),
    ],
)
@pytest.mark.asyncio
async def test_the_suffix_says_what_an_object_is_served_as(store, name, content_type, served_as):
    assert (await store.put(f"inputs/{name}", b"1", content_type)).content_type == served_as
    assert [stored.content_type async for stored in store.list()] == [served_as]


@pytest.mark.asyncio
async def test_a_bucket_keeps_the_content_type_as_given(s3, tmp_path: Path):
    from wan_relay.service.store.open_store import open_store
    from wan_relay.tests.service.store.s3_server import BUCKET, KEYS

    store = open_store(f"s3://{BUCKET}/typed/", endpoint_url=s3.endpoint_url, **KEYS)
    for content in (b"1", BIG):
        await store.put("a/b.mp4", content, "video/mp4; codecs=avc1")
        head = s3.client.head_object(Bucket=BUCKET, Key="typed/a/b.mp4")
        assert (head["ContentType"], head["ContentLength"]) == ("video/mp4; codecs=avc1", len(content))
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=BUCKET)
