"""One LoRA from its URL into a file: guarded, capped, and checked while it arrives."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

import aiohttp
from yarl import URL

from ...contract.errors import JobError
from ...media.guarded_http import guarded_session, is_blocked
from ...media.redirects import following
from ...media.safetensors_stream import NotSafetensors, SafetensorsStream
from .access import FIELD, LoraAccess
from .cache import CacheFault, Known

CONNECT_S = 10.0
SILENCE_S = 60.0
CHUNK = 1024 * 1024
_BUSY = (408, 425, 429, 500, 502, 503, 504)

# told the whole file's bytes as soon as its header is there
Begin = Callable[[int], Awaitable[None]]


class ServerAway(Exception):
    """The server could not be asked just now; `error` says so to the caller."""

    def __init__(self, error: JobError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Source:
    """A URL, what it is called in a sentence, and what it led to when it was last asked."""

    url: str
    name: str
    known: Known | None = None


async def download(source: Source, access: LoraAccess, file: BinaryIO, begin: Begin) -> Known:
    """What the URL leads to now, written into `file`; `source.known` itself where the server says that it is the same.

    Raises JobError, CacheFault; ServerAway before anything has arrived.
    """
    name = source.name
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENCE_S)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "wan-relay"}
    begun = False
    try:
        async with (
            guarded_session(
                access.trusted, timeout=timeout, headers=headers, auto_decompress=False, read_bufsize=CHUNK
            ) as session,
            following(session, source.url, name, FIELD, _headers(source, access)) as response,
        ):
            if _is_the_same(response, source.known):
                assert source.known is not None
                return source.known
            _refuse_answer(response, name, access)
            begun = True
            return await _Receiver(file, name, access.max_bytes, begin).receive(response)
    except aiohttp.ServerTimeoutError:
        error = JobError("DOWNLOAD_TIMEOUT", f"the server of {name} fell silent", FIELD)
    except (aiohttp.ClientError, OSError, ValueError) as fault:
        if is_blocked(fault):
            raise JobError("BLOCKED_URL", f"the host of {name} is not allowed", FIELD) from None
        what = "the download of {} was cut off" if begun else "the server of {} could not be reached"
        error = JobError("DOWNLOAD_FAILED", what.format(name), FIELD)
    raise error if begun else ServerAway(error) from None


def _headers(source: Source, access: LoraAccess) -> Callable[[URL, str], dict[str, str]]:
    """The token goes to the host that the request names, and nowhere once a redirect has left it."""
    known, hops = source.known, list[URL]()
    asked = {"If-None-Match": known.etag} if known and known.etag else {}
    if known and known.modified and not asked:
        asked = {"If-Modified-Since": known.modified}

    def headers_for(url: URL, subject: str) -> dict[str, str]:
        access.refuse_http(url, subject)
        hops.append(url.origin())
        token = access.token(url) if len(set(hops)) == 1 else None
        return asked | ({"Authorization": f"Bearer {token}"} if token else {})

    return headers_for


def _is_the_same(response: aiohttp.ClientResponse, known: Known | None) -> bool:
    if known is None:
        return False
    return response.status == 304 or (response.status == 200 and bool(known.etag) and _etag(response) == known.etag)


def _refuse_answer(response: aiohttp.ClientResponse, name: str, access: LoraAccess) -> None:
    """Raises JobError, ServerAway."""
    if response.status != 200:
        error = JobError("DOWNLOAD_FAILED", f"the server of {name} answered HTTP {response.status}", FIELD)
        raise ServerAway(error) if response.status in _BUSY else error
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise JobError("DOWNLOAD_FAILED", f"the server of {name} sent a compressed body", FIELD)
    if (response.content_length or 0) > access.max_bytes:
        raise _too_large(name, access.max_bytes)


class _Receiver:
    """The body of one answer, on its way into a file."""

    def __init__(self, file: BinaryIO, name: str, max_bytes: int, begin: Begin) -> None:
        self._file = file
        self._name = name
        self._max_bytes = max_bytes
        self._begin = begin
        self._check = SafetensorsStream()
        self._hash = hashlib.sha256()
        self._num_bytes = 0

    async def receive(self, response: aiohttp.ClientResponse) -> Known:
        try:
            is_begun = False
            async for chunk in response.content.iter_chunked(CHUNK):
                await _in_thread(self._take, chunk)
                if not is_begun and self._check.total_bytes is not None:
                    is_begun = True
                    await self._begin(self._check.total_bytes)
            self._check.finish()
        except NotSafetensors as fault:
            raise JobError("INVALID_LORA", f"{self._name} {fault}", FIELD) from None
        return Known(
            sha256=self._hash.hexdigest(),
            num_bytes=self._num_bytes,
            etag=_etag(response),
            modified=response.headers.get("Last-Modified", "")[:100],
        )

    def _take(self, chunk: bytes) -> None:
        """Whatever a server says beforehand, the bytes count."""
        self._check.feed(chunk)
        self._num_bytes += len(chunk)
        if max(self._check.total_bytes or 0, self._num_bytes) > self._max_bytes:
            raise _too_large(self._name, self._max_bytes)
        self._hash.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as fault:
            raise CacheFault(fault) from None


def _etag(response: aiohttp.ClientResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if len(etag) <= 500 else ""


def _too_large(name: str, max_bytes: int) -> JobError:
    return JobError("INVALID_LORA", f"{name} is larger than {max_bytes // 1_000_000} MB", FIELD)


async def _in_thread(work: Callable[[bytes], None], chunk: bytes) -> None:
    """To its end, also when the job is cancelled meanwhile: the file is closed after it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, chunk))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()
        raise
