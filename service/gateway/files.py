"""Files of the object store over HTTP, for whoever holds a signed link: no key is asked for, none disturbs.

Answers come straight from here, never by a redirect: some SDKs follow none, and S3's own links refuse a request that
also has an Authorization header.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing
from email.utils import formatdate, parsedate_to_datetime
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse

from ..store.content_types import content_type_of
from ..store.object_store import (
    InvalidKeyError,
    ObjectNotFoundError,
    ObjectStore,
    StoredObject,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    check_key,
    is_key,
)
from ..store.signed_paths import PathSigner, SignatureError
from ..tasks.names import FILES_PATH
from .byte_range import ByteRange, UnsatisfiableRange, byte_range

MAX_PAUSE_S = 60.0  # between two pieces of an upload
MAX_AGE_S = 300
METHODS = ["GET", "HEAD", "PUT", "OPTIONS"]
_ETAG = re.compile(r'(?:W/)?("[^"]*")|(\*)')

FOR_EVERY_ANSWER = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": ", ".join(METHODS),
    "Access-Control-Allow-Headers": "*, Authorization",  # the asterisk does not stand for that one
    "Access-Control-Max-Age": "86400",
    "Allow": ", ".join(METHODS),
}

log = logging.getLogger(__name__)


class FileLinks:
    """Makes links to files, and knows them again."""

    def __init__(
        self, signer: PathSigner, base_url_of_gateway: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._signer = signer
        self._base_url = base_url_of_gateway
        self._clock = clock

    def base(self, base_url: str) -> str:
        """What links begin with: the gateway's own base URL, else that of the request."""
        return self._base_url or base_url

    def link(self, key: str, lifetime_s: float, base_url: str | None = None) -> str:
        """An absolute URL to read the file by. `base_url`, of the request, counts where the gateway has none set.

        Raises InvalidKeyError.
        """
        return self._link(key, lifetime_s, base_url, "GET")

    def upload_link(self, key: str, lifetime_s: float, base_url: str | None = None) -> str:
        """An absolute URL to PUT the file to, once or again."""
        return self._link(key, lifetime_s, base_url, "PUT")

    def check_upload(self, key: str, query: str) -> None:
        """Raises SignatureError unless the query is that of an upload link to this key which still holds."""
        self._signer.check(f"{FILES_PATH}{key}", query, "PUT", self._clock())

    def key_of(self, url: str, own_hosts: Collection[str] = ()) -> str | None:
        """The key of a link that was made here for reading and still holds; None for any other URL.

        `own_hosts` are `host` or `host:port`, as in the Host header; the host of the gateway's own base URL is one.
        """
        own = {_authority(f"//{host}") for host in own_hosts} | {_authority(self._base_url or "")}
        if not (authority := _authority(url)) or authority not in own:
            return None
        parts = urlsplit(url)
        if not parts.scheme:
            return None
        path = unquote(parts.path)
        for found in re.finditer(FILES_PATH, path):
            key = path[found.end() :]
            if is_key(key) and self._is_signed(key, parts.query):
                return key
        return None

    def _link(self, key: str, lifetime_s: float, base_url: str | None, method: str) -> str:
        base = self._base_url or base_url
        if not base:
            raise ValueError("a link needs the gateway's base URL")
        path = f"{FILES_PATH}{check_key(key)}"
        return f"{base.rstrip('/')}{path}?{self._signer.sign(path, self._clock() + lifetime_s, method)}"

    def _is_signed(self, key: str, query: str) -> bool:
        try:
            self._signer.check(f"{FILES_PATH}{key}", query, "GET", self._clock())
        except SignatureError:
            return False
        return True


def file_routes(
    store: ObjectStore, signer: PathSigner, max_upload_bytes: int, clock: Callable[[], float] = time.time
) -> APIRouter:
    """`GET`, `HEAD`, `PUT` and `OPTIONS` under `/files/`. Refusals are `{"error": one sentence}`."""
    router = APIRouter(include_in_schema=False)

    @router.options("/files/{key:path}")
    async def preflight(key: str) -> Response:
        return Response(status_code=204, headers={**FOR_EVERY_ANSWER, **PREFLIGHT})

    @router.api_route("/files/{key:path}", methods=["GET", "HEAD"])
    async def read_file(key: str, request: Request) -> Response:
        try:
            signer.check(f"{FILES_PATH}{key}", request.url.query, request.method, clock())
            return await file_answer(store, await store.stat(key), request)
        except (SignatureError, StoreError) as error:
            return _refused(error)

    @router.put("/files/{key:path}")
    async def write_file(key: str, request: Request) -> Response:
        try:
            signer.check(f"{FILES_PATH}{key}", request.url.query, "PUT", clock())
            content = _upload(request, max_upload_bytes)
            stored = await store.put(key, content, content_type_of(key))
        except (SignatureError, StoreError, _Refusal) as error:
            return _refused(error)
        except ClientDisconnect:
            return _refused(_Refusal(400, "the upload was broken off"))
        return Response(status_code=201, headers={**FOR_EVERY_ANSWER, "ETag": stored.etag})

    return router


async def file_answer(store: ObjectStore, stored: StoredObject, request: Request) -> Response:
    """The file, a part of it, or that it is what the client has. Raises StoreError."""
    headers = {
        **FOR_EVERY_ANSWER,
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, max-age={MAX_AGE_S}",
        "Content-Disposition": f'inline; filename="{stored.key.rpartition("/")[2]}"',
        "Content-Type": stored.content_type,
        "ETag": stored.etag,
        "Last-Modified": formatdate(stored.modified_s, usegmt=True),
    }
    if _client_has_it(stored, request):
        return Response(status_code=304, headers={name: headers[name] for name in headers if name != "Content-Type"})
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(stored.size)})
    try:
        part = _part(stored, request)
    except UnsatisfiableRange:
        error = _Refusal(416, f"the file has {stored.size} bytes, and none of the range")
        return _refused(error, {"Content-Range": f"bytes */{stored.size}"})
    start, end = part or ByteRange(0, stored.size)
    headers["Content-Length"] = str(end - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
    pieces = await _begun(store.read(stored.key, start, end, stored.etag))
    return StreamingResponse(pieces, status_code=206 if part else 200, headers=headers)


def _client_has_it(stored: StoredObject, request: Request) -> bool:
    """By If-None-Match (compared weakly), or, only where there is none, by If-Modified-Since."""
    known = request.headers.get("if-none-match")
    if known is not None:
        return any(
            tag in (stored.etag.removeprefix("W/"), "*") for match in _ETAG.finditer(known) for tag in match.groups()
        )
    since_s = _epoch_s(request.headers.get("if-modified-since", ""))
    return since_s is not None and int(stored.modified_s) <= since_s


def _part(stored: StoredObject, request: Request) -> ByteRange | None:
    """What Range asks for, unless If-Range (an etag or a date, compared exactly) is about another file."""
    condition = request.headers.get("if-range")
    if condition and condition.strip() != stored.etag and _epoch_s(condition) != int(stored.modified_s):
        return None
    return byte_range(request.headers.get("range", ""), stored.size)


def _epoch_s(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


async def _begun(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The same pieces, the first one fetched: from here on the file is there to its end. Raises StoreError."""
    first = await anext(pieces, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return all_of_them()


class _Refusal(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        self.sentence = sentence
        super().__init__(sentence)


async def _upload(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body, as it comes. Raises _Refusal."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:19]) > limit:
        _too_large(limit)
    size, pieces = 0, request.stream()
    try:
        while True:
            async with asyncio.timeout(MAX_PAUSE_S):
                piece = await anext(pieces, None)
            if piece is None:
                return
            size += len(piece)
            if size > limit:
                _too_large(limit)
            yield piece
    except TimeoutError:
        raise _Refusal(408, f"nothing more of the upload came for {MAX_PAUSE_S:g} s") from None


def _too_large(limit: int) -> NoReturn:
    raise _Refusal(413, f"the upload is larger than {limit / 1e6:g} MB")


def _refused(error: SignatureError | StoreError | _Refusal, headers: dict[str, str] | None = None) -> Response:
    status, retry = _status(error), {}
    if status in (503, 507):
        log.warning("files: %s", error.sentence)
        retry = {"Retry-After": "10"}
    every = {**FOR_EVERY_ANSWER, "Cache-Control": "no-store", **retry, **(headers or {})}
    return JSONResponse({"error": error.sentence}, status_code=status, headers=every)


def _status(error: SignatureError | StoreError | _Refusal) -> int:
    if isinstance(error, _Refusal):
        return error.status
    if isinstance(error, SignatureError):
        return 403
    if isinstance(error, ObjectNotFoundError | InvalidKeyError):
        return 404
    if isinstance(error, StoreUnavailableError):
        return 503
    return 507 if isinstance(error, StoreFullError) else 409


def _authority(url: str) -> str | None:
    """`host` or `host:port` without a port that goes without saying; None for what is no plain http(s) URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("", "http", "https") or not host or "@" in parts.netloc:
        return None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return host if port in (None, usual) else f"{host}:{port}"
