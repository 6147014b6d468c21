"""HTTP that a client's words lead: dialled as it was written, and only to where such words may lead."""

import asyncio
import socket
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .addresses import TrustedHosts, is_public_address

MAX_URL = 8000
# RFC 3986's reserved characters and the percent sign; `quote` leaves the unreserved ones alone.
_WRITTEN_AS_THEY_ARE = "!#$%&'()*+,/:;=?@[]"


class BadUrl(ValueError):
    """What is wrong with a URL, as the end of a sentence that begins with its name."""


class BlockedHost(OSError):
    """The address is neither public nor trusted."""


def dialled_url(text: str) -> URL:
    """Scheme and host as they are dialled, path and query letter by letter as they were written: a signature may
    cover the spelling. Only what no URL can hold is percent-encoded. Raises BadUrl.
    """
    text = text.strip()
    if len(text) > MAX_URL:
        raise BadUrl(f"must be at most {MAX_URL} characters, got {len(text)}")
    if any(c.isspace() for c in text):
        raise BadUrl("has a blank or a line break inside; a blank in a URL is written %20")
    try:
        dialled, written = URL(text), URL(text, encoded=True)
    except (ValueError, UnicodeError):
        raise BadUrl("is not a valid http(s) URL") from None
    if dialled.scheme not in ("http", "https") or not dialled.raw_host:
        raise BadUrl("must be an http or https URL")
    path, query = (
        quote(part, safe=_WRITTEN_AS_THEY_ARE, errors="surrogateescape")
        for part in (written.raw_path, written.raw_query_string)
    )
    return URL.build(
        scheme=dialled.scheme, authority=dialled.raw_authority, path=path, query_string=query, encoded=True
    )


def guarded_session(trusted: TrustedHosts, **options: Any) -> aiohttp.ClientSession:
    """A session that connects, also after a redirect, to public addresses and trusted hosts only.

    Any other raises an aiohttp.ClientError before a byte is sent; `is_blocked` knows it. `options` are ClientSession's.
    """
    gate = _Gate(trusted)
    connector = aiohttp.TCPConnector(
        resolver=gate, socket_factory=gate.open_socket, use_dns_cache=False, force_close=True
    )
    return aiohttp.ClientSession(connector=connector, trust_env=False, **options)


def is_blocked(error: BaseException) -> bool:
    """True for a guarded session's refusal. aiohttp itself refuses an IPv4 address that is not four decimal numbers."""
    return isinstance(error, aiohttp.InvalidUrlClientError) or isinstance(getattr(error, "os_error", None), BlockedHost)


class _Gate(AbstractResolver):
    """Resolves a name once, and makes every socket: nothing is dialled that was not checked here."""

    def __init__(self, trusted: TrustedHosts) -> None:
        self._trusted = trusted
        self._addresses_of_trusted: set[tuple[str, int]] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        addresses = [(entry[0], str(entry[4][0])) for entry in found]
        if self._trusted.covers(host, port):
            self._addresses_of_trusted |= {(address, port) for _, address in addresses}
        for _, address in addresses:
            self._check(address, port)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    def open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """aiohttp resolves no host that is an address already: this is where such a one is met."""
        family, kind, protocol, _, (address, port, *_) = info
        self._check(str(address), int(port))
        return socket.socket(family, kind, protocol)

    def _check(self, address: str, port: int) -> None:
        is_trusted = (address, port) in self._addresses_of_trusted or self._trusted.covers(address, port)
        if not is_trusted and not is_public_address(address):
            raise BlockedHost("the host is not allowed")

    async def close(self) -> None:
        pass
