"""URLs, and servers that misbehave."""

import asyncio
import zlib

import pytest
from aiohttp import web
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media.fetch import fetch
from wan_relay.tests.service.media.pictures import MB, PNG

BLOCKED = "BLOCKED_URL: the host of image_url is not allowed (image_url)"
SCHEME = "INVALID_URL: image_url must be an http or https URL (image_url)"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///etc/passwd", SCHEME),
        ("ftp://example.com/a.png", SCHEME),
        ("gopher://example.com/", SCHEME),
        ("-O/etc/passwd", SCHEME),
        ("http:///a.png", SCHEME),
        ("http://exa mple.com/a.png", "INVALID_URL"),
        ("http://example.com:99999/", "INVALID_URL"),
        ("http://169.254.169.254/latest/meta-data/", BLOCKED),
        ("http://127.0.0.1:8188/system_stats", BLOCKED),
        ("http://10.0.0.8/a.png", BLOCKED),
        ("http://[::1]:8188/", BLOCKED),
        ("http://[::ffff:127.0.0.1]/", BLOCKED),
        ("http://2130706433/", BLOCKED),
        ("http://0x7f000001/", BLOCKED),
        ("http://127.1/", BLOCKED),
        ("http://0177.0.0.1/", BLOCKED),
        ("http://①②⑦.⓪.⓪.①/", BLOCKED),
        ("http://localhost:8188/", BLOCKED),
        ("http://user@example.com/", BLOCKED),
        ("http://example.com@169.254.169.254/", BLOCKED),
    ],
)
def test_url_that_is_refused_before_any_request(url, sentence):
    with pytest.raises(JobError) as caught:
        asyncio.run(asyncio.wait_for(fetch(url, MB, 10, "image_url"), 30))
    assert str(caught.value).startswith(sentence)


def serve(
    handler, path: str, timeout_s: float = 20.0, is_allowed=lambda address: address == "127.0.0.1"
) -> bytes | str:
    """What fetch gives for a local server's path: the bytes, or the error's text."""

    async def main() -> bytes | str:
        app = web.Application()
        app.router.add_get("/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            return await fetch(f"http://127.0.0.1:{port}{path}", MB, timeout_s, "image_url", is_allowed)
        except JobError as error:
            return str(error)
        finally:
            await runner.cleanup()

    return asyncio.run(asyncio.wait_for(main(), 60))


async def misbehaving(request: web.Request) -> web.StreamResponse:
    """A server with one path for each fault."""
    kind = request.path.strip("/")
    if kind == "image":
        return web.Response(body=PNG)
    if kind.isdigit():
        return web.Response(status=int(kind))
    redirects = {
        "hop": "/image",
        "loop": "/loop",
        "private": "http://10.0.0.1/a.png",
        "metadata": "http://169.254.169.254/latest/",
        "scheme": "file:///etc/passwd",
    }
    if kind in redirects:
        return web.Response(status=302, headers={"Location": redirects[kind]})
    if kind == "declared":
        return web.Response(body=bytes(MB + 1))
    if kind == "gzip":
        return web.Response(body=zlib.compress(bytes(100)), headers={"Content-Encoding": "gzip"})
    response = web.StreamResponse()
    await response.prepare(request)
    if kind == "endless":
        while True:
            await response.write(bytes(100_000))
    if kind == "slow":
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)
    if kind == "cut":
        response.force_close()
        assert request.transport is not None
        request.transport.abort()
    return response


TOO_LARGE = "IMAGE_TOO_LARGE: image_url is larger than 1 MB (image_url)"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/image", PNG),
        ("/hop", PNG),
        ("/404", "DOWNLOAD_FAILED: the server of image_url answered HTTP 404 (image_url)"),
        ("/500", "DOWNLOAD_FAILED: the server of image_url answered HTTP 500 (image_url)"),
        ("/200", "DOWNLOAD_FAILED: the server of image_url sent an empty body (image_url)"),
        ("/loop", "DOWNLOAD_FAILED: image_url redirects more than 5 times (image_url)"),
        ("/private", BLOCKED),
        ("/metadata", BLOCKED),
        ("/scheme", SCHEME),
        ("/declared", TOO_LARGE),
        ("/endless", TOO_LARGE),
        ("/gzip", "DOWNLOAD_FAILED: the server of image_url sent a compressed body (image_url)"),
        ("/cut", "DOWNLOAD_FAILED: image_url could not be downloaded (image_url)"),
    ],
)
def test_url_of_a_misbehaving_server(path, answer):
    assert serve(misbehaving, path) == answer


def test_slow_server_meets_the_total_deadline():
    assert serve(misbehaving, "/slow", 0.6) == "DOWNLOAD_TIMEOUT: image_url was not downloaded within 0.6 s (image_url)"
