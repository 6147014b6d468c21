"""Files over a real port, to real clients."""

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from wan_relay.tests.service.gateway.served import MAX_UPLOAD, Gateway
from wan_relay.tests.waiting import wait_until

KEY = "results/01J/video.mp4"
VIDEO = os.urandom(12_345_678)
SIZE = len(VIDEO)
SMALL_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)  # so that the file does not fit between the two


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "store")
    asyncio.run(gateway.store.put(KEY, VIDEO, "video/mp4"))
    with gateway.serving():
        yield gateway


def curl(*arguments: object) -> bytes:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "120", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def kept(gateway: Gateway) -> list[str]:
    return sorted(str(path.relative_to(gateway.folder)) for path in gateway.folder.rglob("*") if path.is_file())


def test_httpx_reads_all_and_parts(gateway: Gateway):
    link = gateway.links.link(KEY, 60)
    with httpx.Client(trust_env=False, headers={"Authorization": "Bearer r8_x"}, follow_redirects=False) as client:
        for _ in range(2):
            whole = client.get(link)
            assert (whole.status_code, whole.content == VIDEO) == (200, True)
            assert client.get(link, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
            head = client.head(link)
            assert (head.status_code, head.headers["content-length"]) == (200, str(SIZE))
            part = client.get(link, headers={"Range": f"bytes={SIZE - 5}-"})
            assert (part.status_code, part.content) == (206, VIDEO[-5:])
            assert client.get(link, headers={"Range": f"bytes={SIZE}-"}).status_code == 416
            assert client.get(f"{link}0").json() == {"error": "the link's signature is wrong"}


def test_curl_reads_goes_on_and_writes(gateway: Gateway, tmp_path: Path):
    link, file = gateway.links.link(KEY, 60), tmp_path / "part.mp4"
    assert curl(link) == VIDEO
    head = curl("--head", "-H", "Authorization: Bearer x", link).decode().lower()
    assert head.startswith("http/1.1 200 ok\r\n")
    assert f"\r\ncontent-length: {SIZE}\r\n" in head
    file.write_bytes(VIDEO[:5_000_000])
    curl("--continue-at", "-", "--output", file, link)
    assert file.read_bytes() == VIDEO
    file.write_bytes(VIDEO[:MAX_UPLOAD])
    status = ("--write-out", "%{http_code}", "--upload-file", file)
    for more in ((), ("-H", "Expect:"), ("-H", "Transfer-Encoding: chunked")):
        assert curl(*status, *more, gateway.links.upload_link("inputs/1.mp4", 60)) == b"201"
        assert curl(gateway.links.link("inputs/1.mp4", 60)) == VIDEO[:MAX_UPLOAD]
        asyncio.run(gateway.store.delete("inputs/1.mp4"))
    file.write_bytes(VIDEO)
    for more in ((), ("-H", "Expect:"), ("-H", "Transfer-Encoding: chunked")):
        answer = curl(*status, *more, gateway.links.upload_link("inputs/1.mp4", 60))
        assert answer == b'{"error":"the upload is larger than 2 MB"}413'
    assert kept(gateway) == [KEY]


def test_two_hundred_readers_at_once(gateway: Gateway):
    link = gateway.links.link(KEY, 600)

    async def read(client: httpx.AsyncClient, number: int) -> bool:
        start = number * 50_000
        response = await client.get(link, headers={"Range": f"bytes={start}-{start + 999_999}"})
        return response.status_code == 206 and response.content == VIDEO[start : start + 1_000_000]

    async def main() -> list[bool]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(trust_env=False, timeout=240, limits=limits) as client:
            return await asyncio.gather(*[read(client, number) for number in range(200)])

    assert asyncio.run(main()) == [True] * 200


def test_a_file_that_is_deleted_while_it_is_read_is_read_whole(gateway: Gateway):
    digest = hashlib.sha256()
    small = httpx.HTTPTransport(socket_options=[SMALL_BUFFER])
    with (
        httpx.Client(transport=small, timeout=60) as client,
        client.stream("GET", gateway.links.link(KEY, 60)) as response,
    ):
        for index, piece in enumerate(response.iter_raw(65536)):
            if index == 0:
                asyncio.run(gateway.store.delete(KEY))
            digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(VIDEO).hexdigest()
    assert httpx.get(gateway.links.link(KEY, 60), trust_env=False).status_code == 404


def test_readers_that_go_away_leave_no_open_file(gateway: Gateway):
    assert open_files(gateway) == 0
    small = httpx.HTTPTransport(socket_options=[SMALL_BUFFER])
    with httpx.Client(transport=small, timeout=60) as client:
        for _ in range(20):
            with client.stream("GET", gateway.links.link(KEY, 60)) as response:
                pieces = response.iter_raw(1000)
                next(pieces)
                assert open_files(gateway) > 0
    wait_until(lambda: open_files(gateway) == 0)


def open_files(gateway: Gateway) -> int:
    """The files of the store that this process has open."""
    if not (links := Path("/proc/self/fd")).is_dir():
        pytest.skip("open files can be counted on Linux alone")
    return sum(str(gateway.folder) in os.path.realpath(link) for link in links.iterdir())


@pytest.mark.parametrize("framing", ["Content-Length: 1900000", "Transfer-Encoding: chunked"])
def test_an_upload_that_is_broken_off_is_not_kept(gateway: Gateway, framing: str):
    before = kept(gateway)
    for key in (KEY, "inputs/1.png"):
        link = httpx.URL(gateway.links.upload_link(key, 60))
        with socket.create_connection((link.host, link.port), 60) as client:
            head = f"PUT {link.raw_path.decode()} HTTP/1.1\r\nHost: gateway\r\n{framing}\r\n\r\n"
            chunk = b"f4240\r\n" if "chunked" in framing else b""
            client.sendall(head.encode() + chunk + bytes(1_000_000) + b"\r\n"[: len(chunk)])
            time.sleep(0.2)
    wait_until(lambda: kept(gateway) == before)
    time.sleep(0.2)
    assert kept(gateway) == before
    assert httpx.get(gateway.links.link(KEY, 60), trust_env=False).content == VIDEO
