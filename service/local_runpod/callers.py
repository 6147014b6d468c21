"""Who may call: who has the key, and without a key this machine's own programs."""

import hmac
import ipaddress
import socket

from aiohttp import web
from yarl import URL


def carries_key(request: web.Request, key: str) -> bool:
    """Whether `Authorization: Bearer KEY`, or the bare key, came. Letters beyond ASCII may come as UTF-8 or Latin-1."""
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "surrogateescape")
    expected = key.encode("utf-8", "surrogateescape")
    return any(hmac.compare_digest(reading, expected) for reading in (sent, sent.decode("latin-1").encode()))


def is_from_own_program(request: web.Request) -> bool:
    """False for what a browser sends for another site's page: its Origin says so, else a name bent to lead here."""
    return _names_this_machine(request.headers.get("Origin", f"http://{request.headers.get('Host', '')}"))


def _names_this_machine(url: str) -> bool:
    try:
        host = URL(url).raw_host or ""
    except ValueError:
        return False
    return host == "localhost" or host.endswith(".localhost") or _is_loopback_address(host)


def is_loopback(host: str) -> bool:
    """Whether listening on a host name or address reaches this machine alone, whichever of its addresses is taken."""
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return all(_is_loopback_address(str(entry[4][0])) for entry in found)


def _is_loopback_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
