"""Objects in a bucket whose server has its moods."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable

import pytest
from wan_relay.service.store.object_store import (
    ObjectNotFoundError,
    ObjectStore,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from wan_relay.service.store.open_store import open_store
from wan_relay.service.store.s3_bucket import S3Bucket
from wan_relay.tests.service.media.fake_s3 import FakeS3
from wan_relay.tests.service.store.s3_server import BUCKET, KEYS, S3Server

KEY = "results/1/a.mp4"
SILENT = "the object store does not answer"
REFUSED = "the object store does not let the gateway in"

Use = Callable[[ObjectStore], Awaitable[object]]
USES: dict[str, Use] = {
    "put": lambda store: store.put(KEY, b"1", "video/mp4"),
    "put large": lambda store: store.put(KEY, bytes(12_000_000), "video/mp4"),
    "stat": lambda store: store.stat(KEY),
    "get": lambda store: store.get(KEY),
    "read": lambda store: anext(store.read(KEY, 5, 10)),
    "delete": lambda store: store.delete(KEY),
    "list": lambda store: anext(store.list()),
    "check": lambda store: store.check(),
}


async def failure(use: Use, store: ObjectStore) -> StoreError:
    with pytest.raises(StoreError) as raised:
        await asyncio.wait_for(use(store), 60)
    return raised.value


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mood", "kind", "sentence"),
    [
        (403, StoreUnavailableError, REFUSED),
        (401, StoreUnavailableError, REFUSED),
        (500, StoreUnavailableError, SILENT),
        (503, StoreUnavailableError, SILENT),
        (302, StoreUnavailableError, SILENT),
        (400, StoreUnavailableError, SILENT),
        (507, StoreFullError, "the object store is full"),
        ("cut", StoreUnavailableError, SILENT),
        ("mute", StoreUnavailableError, SILENT),
    ],
)
async def test_a_server_that_does_not_serve(mood: int | str, kind: type[StoreError], sentence: str, caplog):
    async with FakeS3(mood).serving() as endpoint:
        store = S3Bucket(BUCKET, endpoint_url=endpoint, patience_s=0.3, **KEYS)
        with caplog.at_level(logging.DEBUG):
            errors = await asyncio.gather(*[failure(use, store) for use in USES.values()])
    assert [(type(error), error.sentence) for error in errors] == [(kind, sentence)] * len(USES)
    warnings = [record.message for record in caplog.records if record.name.startswith("wan_relay")]
    assert len(warnings) == len(USES)
    assert not any("\n" in warning for warning in warnings)
    assert mood != 403 or any(warning.endswith(" AccessDenied") for warning in warnings)
    told = "".join("".join(traceback.format_exception(error)) for error in errors) + caplog.text + repr(vars(store))
    assert KEYS["secret_access_key"] not in told


@pytest.mark.asyncio
async def test_a_server_that_is_down():
    store = open_store(f"s3://{BUCKET}", endpoint_url="http://127.0.0.1:9", **KEYS)
    errors = await asyncio.gather(*[failure(use, store) for use in USES.values()])
    assert {(type(error), error.sentence) for error in errors} == {(StoreUnavailableError, SILENT)}


@pytest.mark.asyncio
async def test_a_server_that_falters_is_asked_again():
    s3 = FakeS3(503, "cut", 404)
    async with s3.serving() as endpoint:
        with pytest.raises(ObjectNotFoundError):
            await S3Bucket(BUCKET, endpoint_url=endpoint, **KEYS).get(KEY)
    assert [(request.method, request.path) for request in s3.requests] == [("GET", f"/{BUCKET}/{KEY}")] * 3


@pytest.mark.asyncio
async def test_a_bucket_that_is_not_there_is_said(s3: S3Server):
    store = open_store("s3://nowhere/prefix", endpoint_url=s3.endpoint_url, **KEYS)
    for name in ("put", "put large", "get", "read", "list", "check"):
        with pytest.raises(StoreUnavailableError) as raised:
            await USES[name](store)
        assert raised.value.sentence == "the object store has no such bucket", name


@pytest.mark.asyncio
async def test_a_server_that_goes_mute_works_again_when_it_is_back(s3: S3Server):
    patient = S3Bucket(BUCKET, "moods", endpoint_url=s3.endpoint_url, **KEYS)
    await patient.put(KEY, b"1", "video/mp4")
    store = S3Bucket(BUCKET, "moods", endpoint_url=s3.endpoint_url, patience_s=0.3, **KEYS)
    with s3.mute():
        errors = await asyncio.gather(*[failure(use, store) for use in USES.values()])
    assert {(type(error), error.sentence) for error in errors} == {(StoreUnavailableError, SILENT)}
    await patient.check()
    await patient.put(KEY, b"2", "video/mp4")
    assert await patient.get(KEY) == b"2"


@pytest.mark.asyncio
async def test_a_slow_reader_gets_it_all(s3: S3Server):
    """The server's patience is for the server: how long the reader takes does not count."""
    content = bytes(range(256)) * 50_000
    await S3Bucket(BUCKET, "slow", endpoint_url=s3.endpoint_url, **KEYS).put(KEY, content, "video/mp4")
    store = S3Bucket(BUCKET, "slow", endpoint_url=s3.endpoint_url, patience_s=2, **KEYS)
    found, pauses = b"", iter([2.5])
    async for piece in store.read(KEY):
        found += piece
        await asyncio.sleep(next(pauses, 0))
    assert found == content


@pytest.mark.asyncio
async def test_two_hundred_readers_at_once(s3: S3Server):
    store = open_store(f"s3://{BUCKET}/many", endpoint_url=s3.endpoint_url, **KEYS)
    content = bytes(range(256)) * 1000
    await store.put(KEY, content, "video/mp4")

    async def read(start: int) -> bytes:
        return b"".join([piece async for piece in store.read(KEY, start)])

    assert await asyncio.gather(*[read(number) for number in range(200)]) == [content[n:] for n in range(200)]
