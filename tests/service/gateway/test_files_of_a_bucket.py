"""The same answers where the files lie in S3."""

import asyncio
from pathlib import Path

import httpx
import pytest
from wan_relay.service.store.open_store import open_store
from wan_relay.tests.service.gateway.served import MAX_UPLOAD, Gateway
from wan_relay.tests.service.store.s3_server import BUCKET, KEYS, moto_server, s3_server

KEY = "results/01J/video.mp4"
VIDEO = bytes(range(251)) * 40_000


def test_files_of_a_bucket(tmp_path: Path):
    program = moto_server()
    if program is None:
        pytest.skip("moto_server is not installed")
    with s3_server(program) as s3:
        store = open_store(f"s3://{BUCKET}/gateway", endpoint_url=s3.endpoint_url, **KEYS)
        stored = asyncio.run(store.put(KEY, VIDEO, "video/mp4"))
        gateway = Gateway(tmp_path, store)
        with (
            gateway.serving(),
            httpx.Client(trust_env=False, timeout=60, headers={"Authorization": "Bearer x"}) as client,
        ):
            link, upload = gateway.links.link(KEY, 60), gateway.links.upload_link("inputs/1.png", 60)
            whole = client.get(link)
            assert (whole.status_code, whole.content == VIDEO, whole.history) == (200, True, [])
            assert whole.headers["etag"] == stored.etag
            assert whole.headers["content-type"] == "video/mp4"
            assert client.head(link).headers["content-length"] == str(len(VIDEO))
            part = client.get(link, headers={"Range": "bytes=5000000-9999999999", "If-Range": stored.etag})
            assert (part.status_code, part.content) == (206, VIDEO[5_000_000:])
            assert client.get(link, headers={"Range": f"bytes={len(VIDEO)}-"}).status_code == 416
            assert client.get(link, headers={"If-None-Match": stored.etag}).status_code == 304
            for content in (b"", bytes(MAX_UPLOAD)):
                put = client.put(upload, content=content)
                assert (put.status_code, put.headers["etag"]) == (201, asyncio.run(store.stat("inputs/1.png")).etag)
                assert client.get(gateway.links.link("inputs/1.png", 60)).content == content
            assert client.put(upload, content=bytes(MAX_UPLOAD + 1)).status_code == 413
            assert asyncio.run(store.stat("inputs/1.png")).size == MAX_UPLOAD
            asyncio.run(store.delete(KEY))
            assert client.get(link).status_code == 404
            s3.client.delete_object(Bucket=BUCKET, Key="gateway/inputs/1.png")
            s3.client.delete_bucket(Bucket=BUCKET)
            gone = client.put(upload, content=b"1")
            assert (gone.status_code, gone.json()) == (503, {"error": "the object store has no such bucket"})
