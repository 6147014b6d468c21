"""What the gateway serves of the page, and with which headers."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from wan_relay.service.gateway.page_routes import PAGE, content_security_policy, page_files, page_routes


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI(openapi_url=None)
    app.include_router(page_routes())
    return TestClient(app)


def test_the_page_and_its_files(client: TestClient) -> None:
    types = {
        "": "text/html; charset=utf-8",
        "page/style.css": "text/css; charset=utf-8",
        "page/main.mjs": "text/javascript; charset=utf-8",
        "page/words/en.json": "application/json",
        "page/mark.svg": "image/svg+xml",
    }
    assert {path: client.get(f"/{path}").headers["content-type"] for path in types} == types
    assert client.get("/").content == client.get("/page/index.html").content == (PAGE / "index.html").read_bytes()
    head = client.head("/page/style.css")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == (PAGE / "style.css").stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        "page/",
        "page/nothing.mjs",
        "page/../page_routes.py",
        "page/%2e%2e/page_routes.py",
        "page/..%2fapp.py",
        "page//etc/passwd",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/{path}").status_code == 404


def test_only_the_pages_own_types_are_read(tmp_path: Path) -> None:
    for name in ("index.html", "notes.txt", "key.pem", "words/en.json", "main.mjs.map"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(page_files(tmp_path)) == ["index.html", "words/en.json"]


def test_a_browser_that_has_it_gets_nothing_again(client: TestClient) -> None:
    first = client.get("/page/main.mjs")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f"W/{first.headers['etag']}", f'"other", {first.headers["etag"]}'):
        again = client.get("/page/main.mjs", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get("/page/main.mjs", headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_policy(client: TestClient) -> None:
    headers = client.get("/").headers
    policy = headers["content-security-policy"]
    assert policy == content_security_policy(None)
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    elsewhere = content_security_policy("https://video.example.com")
    assert (
        "media-src 'self' blob: https://video.example.com; connect-src 'self' https://video.example.com;" in elsewhere
    )


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    scripts = "\n".join(path.read_text() for path in PAGE.glob("*.mjs"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", scripts)
