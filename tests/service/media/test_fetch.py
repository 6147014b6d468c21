"""URLs, and servers that misbehave."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media import guarded_http
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.media.fetch import fetch
from wan_relay.tests.service.media.pictures import MB, PNG

BLOCKED = "BLOCKED_URL: the host of image_url is not allowed (image_url)"
USER = "BLOCKED_URL: image_url must not carry a user name or password (image_url)"
SCHEME = "INVALID_URL: image_url must be an http or https URL (image_url)"
SYNTAX = "INVALID_URL: image_url is not a valid http(s) URL (image_url)"
BLANK = "INVALID_URL: image_url has a blank or a line break inside; a blank in a URL is written %20 (image_url)"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", SCHEME),
        ("file:///etc/passwd", SCHEME),
        ("ftp://example.com/a.png", SCHEME),
        ("gopher://example.com/", SCHEME),
        ("-O/etc/passwd", SCHEME),
        ("example.com/a.png", SCHEME),
        ("http:///a.png", SCHEME),
        ("http://exa mple.com/a.png", BLANK),
        ("https://example.com/my photo.png", BLANK),
        ("https://example.com/\nhttps://example.com/b.png", BLANK),
        ("https://example.com/a\u00a0b.png", BLANK),
        ("http://example.com:99999/", SYNTAX),
        ("http://[::1", SYNTAX),
        (
            "http://example.com/" + "a" * 8000,
            "INVALID_URL: image_url must be at most 8000 characters, got 8019 (image_url)",
        ),
        ("http://user@example.com/", USER),
        ("http://example.com@169.254.169.254/", USER),
        ("http://169.254.169.254/latest/meta-data/", BLOCKED),
        ("http://127.0.0.1:8188/system_stats", BLOCKED),
        (" http://127.0.0.1:8188/system_stats\n", BLOCKED),
        ("http://10.0.0.8/a.png", BLOCKED),
        ("http://[::1]:8188/", BLOCKED),
        ("http://[::ffff:127.0.0.1]/", BLOCKED),
        ("http://[::ffff:7f00:1]/", BLOCKED),
        ("http://[0:0:0:0:0:ffff:127.0.0.1]/", BLOCKED),
        ("http://[::127.0.0.1]/", BLOCKED),
        ("http://[::ffff:0:127.0.0.1]/", BLOCKED),
        ("http://[64:ff9b::127.0.0.1]/", BLOCKED),
        ("http://[2002:7f00:1::]/", BLOCKED),
        ("http://[fe80::1%25eth0]/", BLOCKED),
        ("http://[fe80::1%eth0]/", BLOCKED),
        ("http://[::1%25lo]/", BLOCKED),
        ("http://2130706433/", BLOCKED),
        ("http://017700000001/", BLOCKED),
        ("http://0x7f000001/", BLOCKED),
        ("http://0x7f.1/", BLOCKED),
        ("http://127.1/", BLOCKED),
        ("http://127.0.0.1./", BLOCKED),
        ("http://0177.0.0.1/", BLOCKED),
        ("http://①②⑦.⓪.⓪.①/", BLOCKED),
        ("http://１２７.0.0.1/", BLOCKED),
        ("http://localhost:8188/", BLOCKED),
        ("http://LOCALHOST:8188/", BLOCKED),
    ],
)
def test_url_that_is_refused_before_any_request(url, sentence):
    with pytest.raises(JobError) as caught:
        asyncio.run(asyncio.wait_for(fetch(url, MB, 10, "image_url", TrustedHosts()), 30))
    assert str(caught.value) == sentence


TRUSTED = TrustedHosts.parse("127.0.0.1")


def serve(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    path: str,
    timeout_s: float = 20.0,
    trusted: TrustedHosts = TRUSTED,
    host: str = "127.0.0.1",
) -> bytes | str:
    """What fetch gives for a local server's path: the bytes, or the error's text."""

    async def main() -> bytes | str:
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            return await fetch(f"http://{host}:{port}{path}", MB, timeout_s, "image_url", trusted)
        except JobError as error:
            return str(error)
        finally:
            await runner.cleanup()

    return asyncio.run(asyncio.wait_for(main(), 60))


async def misbehaving(request: web.BaseRequest) -> web.StreamResponse:
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
        "mapped": f"http://[::127.0.0.1]:{request.url.port}/image",
        "scheme": "file:///etc/passwd",
        "blank": "/my photo.png",
        "user": "http://a:b@example.com/",
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
        ("/image \n", PNG),
        ("/hop", PNG),
        ("/404", "DOWNLOAD_FAILED: the server of image_url answered HTTP 404 (image_url)"),
        ("/500", "DOWNLOAD_FAILED: the server of image_url answered HTTP 500 (image_url)"),
        ("/200", "DOWNLOAD_FAILED: the server of image_url sent an empty body (image_url)"),
        ("/loop", "DOWNLOAD_FAILED: image_url redirects more than 5 times (image_url)"),
        ("/private", BLOCKED),
        ("/metadata", BLOCKED),
        ("/mapped", BLOCKED),
        ("/scheme", SCHEME.replace("image_url must", "the redirect of image_url must")),
        ("/blank", BLANK.replace("image_url has", "the redirect of image_url has")),
        ("/user", USER.replace("image_url must", "the redirect of image_url must")),
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


# Path and query as object stores sign them, and what is sent for them.
SPELLINGS = [
    ("/a%2Fb%40c%28d%29.png?X-Amz-Credential=K%2F2026%2Fs3&x=a%26b%2Bc+d%3D", None),
    ("/a%7Eb~c%2f%2F.png?sig=%c3%a9%C3%A9", None),
    ("/a(b)@c&d=e;f,g:h!$'*+[i].png?a=b/c?d@e:f&g=(h)[i];'j'", None),
    ("/100%?p=5%&q=%zz", None),
    ("/a//b.png?a&&b=&=c", None),
    ("/a.png?next=https://example.com/x?y%23z", None),
    ("/a.png#part", "/a.png"),
    ("/bücher/写真.png?q=é", "/b%C3%BCcher/%E5%86%99%E7%9C%9F.png?q=%C3%A9"),
    ('/a"b<c>d\\e^f`g{h|i}.png', "/a%22b%3Cc%3Ed%5Ce%5Ef%60g%7Bh%7Ci%7D.png"),
]


@pytest.mark.parametrize(("written", "sent"), SPELLINGS)
def test_url_is_dialled_as_it_was_written(written, sent):
    """Also after a redirect, to a whole URL or to a path."""
    seen = []

    async def server(request: web.BaseRequest) -> web.Response:
        base = f"http://127.0.0.1:{request.url.port}"
        redirects = {"/whole": base + written, "/path": written}
        if request.raw_path in redirects:
            return web.Response(status=302, headers={"Location": redirects[request.raw_path]})
        seen.append(request.raw_path)
        return web.Response(body=PNG)

    assert [serve(server, path) for path in (written, "/whole", "/path")] == [PNG] * 3
    assert seen == [sent or written] * 3


@pytest.mark.parametrize(
    ("trusted", "host", "answer"),
    [
        ("localhost", "localhost", PNG),
        ("localhost", "127.0.0.1", BLOCKED),
        ("127.0.0.1", "127.0.0.1", PNG),
        ("127.0.0.1", "localhost", PNG),
        ("example.com, 127.0.0.2", "localhost", BLOCKED),
    ],
)
def test_trusted_name_is_trusted_by_name_and_trusted_address_by_whatever_name(trusted, host, answer):
    assert serve(misbehaving, "/image", trusted=TrustedHosts.parse(trusted), host=host) == answer


def test_trust_ends_at_the_port():
    async def main() -> None:
        runner = web.ServerRunner(web.Server(misbehaving), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        try:
            for host in ("127.0.0.1", "localhost"):
                url = f"http://{host}:{port}/image"
                assert await fetch(url, MB, 20, "image_url", TrustedHosts.parse(f"{host}:{port}")) == PNG
                with pytest.raises(JobError, match="BLOCKED_URL"):
                    await fetch(url, MB, 20, "image_url", TrustedHosts.parse(f"{host}:{port + 1}"))
        finally:
            await runner.cleanup()

    asyncio.run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_is_dialled_is_what_is_checked(monkeypatch, host):
    """The last check is the socket's own: a name that was public a moment ago does not help."""
    verdicts = iter([True] if host == "localhost" else [])
    monkeypatch.setattr(guarded_http, "is_public_address", lambda address: next(verdicts, False))
    assert serve(misbehaving, "/image", trusted=TrustedHosts(), host=host) == BLOCKED


def test_name_is_resolved_once(monkeypatch):
    asked = []

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        runner = web.ServerRunner(web.Server(misbehaving), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        resolve = loop.getaddrinfo

        async def counted(host, *args, **options):
            asked.append(host)
            return await resolve("127.0.0.1" if len(asked) == 1 else "10.0.0.1", *args, **options)

        monkeypatch.setattr(loop, "getaddrinfo", counted)
        try:
            url = f"http://images.example:{runner.addresses[0][1]}/image"
            return await fetch(url, MB, 20, "image_url", TrustedHosts.parse("images.example"))
        finally:
            await runner.cleanup()

    assert asyncio.run(main()) == PNG
    assert asked == ["images.example"]
