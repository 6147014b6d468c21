"""Files over HTTP: who may have them, which part, in whose words."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from wan_relay.service.gateway import files as files_module
from wan_relay.service.gateway.files import FileLinks
from wan_relay.service.store.object_store import InvalidKeyError, StoredObject, StoreFullError, StoreUnavailableError
from wan_relay.service.store.signed_paths import PathSigner
from wan_relay.tests.service.gateway.served import MAX_UPLOAD, Gateway

KEY = "results/01J/video.mp4"
VIDEO = bytes(range(256)) * 4000
SIZE = len(VIDEO)
CORS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
}


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    gateway = Gateway(tmp_path / "store")
    asyncio.run(gateway.store.put(KEY, VIDEO, "video/mp4"))
    return gateway


def ask(gateway: Gateway, method: str, url: str, **more: object) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(gateway.app)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, url, **more)

    return asyncio.run(main())


def get(gateway: Gateway, key: str = KEY, method: str = "GET", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(gateway, method, gateway.links.link(key, 3600), headers=named)


def stat(gateway: Gateway, key: str = KEY) -> StoredObject:
    return asyncio.run(gateway.store.stat(key))


def headers_of(response: httpx.Response) -> dict[str, str]:
    return dict(response.headers)


def refusal(response: httpx.Response) -> tuple[int, object]:
    """Status and body; what every refusal has is checked."""
    assert response.headers.items() >= {**CORS, "cache-control": "no-store"}.items()
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()


def test_a_link_gives_the_file(gateway: Gateway):
    stored = stat(gateway)
    response = get(gateway)
    assert (response.status_code, response.content) == (200, VIDEO)
    assert headers_of(response) == {
        **CORS,
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=300",
        "content-disposition": 'inline; filename="video.mp4"',
        "content-length": str(SIZE),
        "content-type": "video/mp4",
        "etag": stored.etag,
        "last-modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(stored.modified_s)),
    }


def test_head_says_the_same_without_the_file(gateway: Gateway):
    response = get(gateway, method="HEAD")
    assert (response.status_code, response.content) == (200, b"")
    assert headers_of(response) == headers_of(get(gateway))
    assert headers_of(get(gateway, method="HEAD", range="bytes=0-5")) == headers_of(response)


@pytest.mark.parametrize("word", ["Bearer r8_secret", "Key id:secret", "Token x", "Basic eDp5", "\x7f", ""])
def test_a_stray_key_is_ignored(gateway: Gateway, word: str):
    for method in ("GET", "HEAD"):
        response = get(gateway, method=method, authorization=word)
        assert (response.status_code, response.headers["content-length"]) == (200, str(SIZE))


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=500000-{SIZE + 5}", 500_000, SIZE),
        ("bytes=300000-899999", 300_000, 900_000),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
    ],
)
def test_a_part_is_sent_alone(gateway: Gateway, header: str, start: int, end: int):
    response = get(gateway, range=header)
    assert (response.status_code, response.content) == (206, VIDEO[start:end])
    whole = headers_of(get(gateway))
    assert headers_of(response) == {
        **whole,
        "content-length": str(end - start),
        "content-range": f"bytes {start}-{end - 1}/{SIZE}",
    }


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 6}", "bytes=-0"])
def test_a_part_that_is_not_there(gateway: Gateway, header: str):
    response = get(gateway, range=header)
    assert refusal(response) == (416, {"error": f"the file has {SIZE} bytes, and none of the range"})
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=9-5", "bytes=x", "items=0-1", ""])
def test_other_ranges_are_ignored(gateway: Gateway, header: str):
    response = get(gateway, range=header)
    assert (response.status_code, response.content) == (200, VIDEO)
    assert "content-range" not in response.headers


def test_an_empty_file(gateway: Gateway):
    asyncio.run(gateway.store.put("inputs/empty.png", b"", "image/png"))
    response = get(gateway, "inputs/empty.png")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "0")
    assert get(gateway, "inputs/empty.png", range="bytes=0-").status_code == 416


def test_a_client_that_has_the_file_is_not_sent_it_again(gateway: Gateway):
    etag, date = (get(gateway).headers[name] for name in ("etag", "last-modified"))
    later = "Fri, 01 Jan 2100 00:00:00 GMT"
    has_it = [{"if_none_match": value} for value in (etag, f"W/{etag}", f'"x", {etag}', f'"x",W/{etag} ,"y"', "*")]
    has_it += [{"if_modified_since": date}, {"if_modified_since": later}]
    has_it += [{"if_none_match": etag, "range": "bytes=0-1"}]
    for headers in has_it:
        for method in ("GET", "HEAD"):
            response = get(gateway, method=method, **headers)
            assert (response.status_code, response.content) == (304, b""), headers
            assert response.headers.items() >= {**CORS, "etag": etag, "last-modified": date}.items()
            assert "content-length" not in response.headers
            assert "content-type" not in response.headers
    not_it = [{"if_none_match": value} for value in ('"x"', etag.strip('"'), "", f'"{etag}"')]
    not_it += [{"if_modified_since": value} for value in ("Sat, 01 Jan 2000 00:00:00 GMT", "yesterday", "", "9" * 400)]
    not_it += [{"if_none_match": '"x"', "if_modified_since": later}]
    for headers in not_it:
        assert get(gateway, **headers).content == VIDEO, headers


def test_a_part_is_sent_only_of_the_file_that_the_client_began(gateway: Gateway):
    etag, date = (get(gateway).headers[name] for name in ("etag", "last-modified"))
    for condition in (etag, f" {etag}", date):
        response = get(gateway, range="bytes=5-9", if_range=condition)
        assert (response.status_code, response.content) == (206, VIDEO[5:10]), condition
    for condition in ('"x"', f"W/{etag}", "Fri, 01 Jan 2100 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", "x", "*"):
        response = get(gateway, range="bytes=5-9", if_range=condition)
        assert (response.status_code, response.content) == (200, VIDEO), condition


def test_a_changed_link_opens_nothing(gateway: Gateway):
    asyncio.run(gateway.store.put("results/02J/video.mp4", b"other", "video/mp4"))
    link, upload = gateway.links.link(KEY, 3600), gateway.links.upload_link(KEY, 3600)
    wrong = [
        link.partition("?")[0],
        link.replace("01J", "02J"),
        link.replace("/video.mp4", "/../../01J/video.mp4x"),
        link.replace("expires=18", "expires=19"),
        link[:-1] + ("0" if link[-1] != "0" else "1"),
        link.replace("&signature", "&Signature"),
        f"{link}&{link.partition('?')[2]}",
        upload,
        "http://gateway.test/files/?expires=1&signature=x",
        "http://gateway.test/files/%2e%2e/%2e%2e/etc/passwd?expires=1900000000&signature=x",
    ]
    for url in wrong:
        assert refusal(ask(gateway, "GET", url)) == (403, {"error": "the link's signature is wrong"}), url
    assert refusal(ask(gateway, "PUT", link, content=b"x")) == (403, {"error": "the link's signature is wrong"})
    for method in ("POST", "DELETE", "PATCH"):
        assert ask(gateway, method, link).status_code == 405
    assert stat(gateway).size == SIZE


def test_a_link_ends(gateway: Gateway):
    link, upload = gateway.links.link(KEY, 60), gateway.links.upload_link(KEY, 60)
    gateway.clock.now_s += 59
    assert ask(gateway, "GET", link).status_code == 200
    gateway.clock.now_s += 1
    for method, url in (("GET", link), ("PUT", upload)):
        assert refusal(ask(gateway, method, url)) == (403, {"error": "the link has expired"})
    assert ask(gateway, "HEAD", link).status_code == 403
    assert stat(gateway).size == SIZE


def test_a_removed_file_is_gone(gateway: Gateway):
    link = gateway.links.link(KEY, 60)
    asyncio.run(gateway.store.delete(KEY))
    assert refusal(ask(gateway, "GET", link)) == (404, {"error": "there is no such file, or no longer"})
    assert ask(gateway, "HEAD", link).status_code == 404


def test_a_file_that_goes_while_it_is_looked_up_is_gone(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    async def stat_then_delete(key: str) -> StoredObject:
        stored = await type(gateway.store).stat(gateway.store, key)
        await gateway.store.delete(key)
        return stored

    monkeypatch.setattr(gateway.store, "stat", stat_then_delete)
    assert refusal(get(gateway)) == (404, {"error": "there is no such file, or no longer"})


def test_a_file_that_is_replaced_while_it_is_looked_up_is_not_mixed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    async def stat_then_put(key: str) -> StoredObject:
        stored = await type(gateway.store).stat(gateway.store, key)
        monkeypatch.undo()
        await gateway.store.put(key, b"other", "video/mp4")
        return stored

    monkeypatch.setattr(gateway.store, "stat", stat_then_put)
    assert refusal(get(gateway)) == (404, {"error": "the file was replaced while it was being read"})
    assert get(gateway).content == b"other"


def test_a_store_that_is_gone_and_comes_back(gateway: Gateway):
    elsewhere = gateway.folder.with_name("elsewhere")
    gateway.folder.rename(elsewhere)
    for response in (get(gateway), ask(gateway, "PUT", gateway.links.upload_link(KEY, 60), content=b"x")):
        assert refusal(response) == (503, {"error": "the object store's folder is gone"})
        assert response.headers["retry-after"] == "10"
    elsewhere.rename(gateway.folder)
    assert get(gateway).content == VIDEO


def test_pages_of_other_origins_may_use_the_links(gateway: Gateway):
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type,x-fal-file-name",
    }
    for url in (gateway.links.upload_link(KEY, 60), gateway.links.link(KEY, 60).partition("?")[0]):
        response = ask(gateway, "OPTIONS", url, headers=asked)
        assert (response.status_code, response.content) == (204, b"")
        assert headers_of(response) == {
            **CORS,
            "access-control-allow-headers": "*, Authorization",
            "access-control-allow-methods": "GET, HEAD, PUT, OPTIONS",
            "access-control-max-age": "86400",
            "allow": "GET, HEAD, PUT, OPTIONS",
        }


@pytest.mark.parametrize("content", [b"", b"\x89PNG", VIDEO, bytes(MAX_UPLOAD)], ids=len)
def test_an_upload_is_kept(gateway: Gateway, content: bytes):
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 70_001):
            yield content[start : start + 70_001]

    link = gateway.links.upload_link("inputs/1.png", 60)
    for body in (content, pieces()):
        response = ask(
            gateway, "PUT", link, content=body, headers={"Content-Type": "text/html", "Authorization": "Key k"}
        )
        assert (response.status_code, response.content) == (201, b"")
        assert headers_of(response) == {**CORS, "content-length": "0", "etag": stat(gateway, "inputs/1.png").etag}
        read = get(gateway, "inputs/1.png")
        assert (read.content, read.headers["content-type"]) == (content, "image/png")


def test_an_upload_over_the_cap_is_refused(gateway: Gateway):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(100_000)

    for key in (KEY, "inputs/1.png"):
        link = gateway.links.upload_link(key, 60)
        for body in (bytes(MAX_UPLOAD + 1), pieces()):
            assert refusal(ask(gateway, "PUT", link, content=body)) == (
                413,
                {"error": "the upload is larger than 2 MB"},
            )
    response = ask(gateway, "PUT", link, content=b"", headers={"Content-Length": "9" * 4000})
    assert response.status_code == 413
    assert [str(path.relative_to(gateway.folder)) for path in gateway.folder.rglob("*.*")] == [KEY]
    assert get(gateway).content == VIDEO


def test_an_upload_that_stops_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files_module, "MAX_PAUSE_S", 0.2)

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        await asyncio.sleep(60)

    response = ask(gateway, "PUT", gateway.links.upload_link("inputs/1.png", 60), content=pieces())
    assert refusal(response) == (408, {"error": "nothing more of the upload came for 0.2 s"})
    assert [str(path.relative_to(gateway.folder)) for path in gateway.folder.rglob("*.*")] == [KEY]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreFullError("the object store is full"), 507),
        (StoreUnavailableError("the object store does not answer"), 503),
    ],
)
def test_a_store_that_takes_no_upload_is_said(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, error, status, caplog):
    async def fail(*_: object) -> StoredObject:
        raise error

    monkeypatch.setattr(gateway.store, "put", fail)
    response = ask(gateway, "PUT", gateway.links.upload_link(KEY, 60), content=b"x")
    assert refusal(response) == (status, {"error": error.sentence})
    assert response.headers["retry-after"] == "10"
    assert error.sentence in caplog.text


def test_a_key_inside_a_file_is_a_conflict(gateway: Gateway):
    response = ask(gateway, "PUT", gateway.links.upload_link(f"{KEY}/inside.png", 60), content=b"x")
    sentence = "a part of the key is already the name of a file, or the key that of a folder"
    assert refusal(response) == (409, {"error": sentence})


class TestLinks:
    signer = PathSigner(b"0123456789abcdef")

    def links(self, base_url: str | None = "https://gw.example/relay/", now_s: float = 1000.0) -> FileLinks:
        return FileLinks(self.signer, base_url, lambda: now_s)

    def test_a_link_is_absolute_under_the_gateways_own_address(self):
        signed = self.signer.sign("/files/a/b.mp4", 1060)
        assert self.links().link("a/b.mp4", 60) == f"https://gw.example/relay/files/a/b.mp4?{signed}"
        assert self.links().link("a/b.mp4", 60, "http://other") == f"https://gw.example/relay/files/a/b.mp4?{signed}"
        assert self.links(None).link("a/b.mp4", 60, "http://h:1/") == f"http://h:1/files/a/b.mp4?{signed}"
        signed = self.signer.sign("/files/a/b.mp4", 1060, "PUT")
        assert self.links().upload_link("a/b.mp4", 60) == f"https://gw.example/relay/files/a/b.mp4?{signed}"

    def test_a_link_needs_an_address_and_a_key(self):
        with pytest.raises(ValueError, match="a link needs the gateway's base URL"):
            self.links(None).link("a/b.mp4", 60)
        for key in ("../a", "", "a b"):
            with pytest.raises(InvalidKeyError):
                self.links().link(key, 60)
            with pytest.raises(InvalidKeyError):
                self.links().upload_link(key, 60)

    def test_own_links_are_known(self):
        link = self.links().link("a/files/b.mp4", 60)
        query = link.partition("?")[2]
        for url in (
            link,
            link.replace("https", "http"),
            link.replace("gw.example", "GW.Example:443"),
            link.replace("/relay", ""),
            link.replace("/relay", "/files/relay"),
            link.replace("b.mp4", "%62.mp4"),
            f"{link}&download=1#t=5",
        ):
            assert self.links().key_of(url) == "a/files/b.mp4", url
        for host in ("127.0.0.1:8100", "localhost", "[::1]:8100", "LocalHost"):
            url = f"http://{host}/files/a/files/b.mp4?{query}"
            assert self.links().key_of(url, {host.lower()}) == "a/files/b.mp4"
            assert self.links(None).key_of(url, {"other", host}) == "a/files/b.mp4"
            assert self.links().key_of(url) is None

    def test_other_links_are_not(self):
        link = self.links().link("a/b.mp4", 60)
        for url in (
            link.replace("gw.example", "gw.example.evil"),
            link.replace("gw.example", "gw.example:444"),
            link.replace("gw.example", "user@gw.example"),
            link.replace("https:", "ftp:"),
            link.replace("https:", ""),
            link.replace("a/b", "a/c"),
            link.replace("/files/", "/file/"),
            link[:-1],
            link.partition("?")[0],
            self.links().upload_link("a/b.mp4", 60),
            "https://gw.example/relay/files/",
            "https://gw.example:99999999/files/a",
            "https://[/files/a",
            "data:image/png;base64,AAAA",
            "",
            "\0",
        ):
            assert self.links().key_of(url, {"gw.example"}) is None, url
        assert self.links(now_s=1059).key_of(link) == "a/b.mp4"
        assert self.links(now_s=1060).key_of(link) is None
        assert self.links(None).key_of(link) is None
        assert self.links(None).key_of("/files/a", {""}) is None
