"""GET a client's URL: public addresses only, on every redirect too, within one deadline and byte cap."""

import asyncio
import re
import socket
from collections.abc import Callable
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..contract.errors import JobError
from .addresses import is_public_address

MAX_REDIRECTS = 5


class _PublicResolver(AbstractResolver):
    """Resolves a name once and hands out only checked addresses: the connection dials exactly those."""

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        addresses = [(entry[0], str(entry[4][0])) for entry in found]
        if not addresses or not all(self._is_allowed(address) for _, address in addresses):
            raise _BlockedHost
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    async def close(self) -> None:
        pass


class _BlockedHost(Exception):
    pass


async def fetch(
    url: str, limit: int, timeout_s: float, field: str, is_allowed: Callable[[str], bool] = is_public_address
) -> bytes:
    """GET a client's URL: public addresses only, on every redirect too, within one deadline and byte cap."""
    connector = aiohttp.TCPConnector(resolver=_PublicResolver(is_allowed), use_dns_cache=False, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None, connect=min(10.0, timeout_s))
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "wan-relay"}
    try:
        async with (
            asyncio.timeout(timeout_s),
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, headers=headers, auto_decompress=False, trust_env=False
            ) as session,
        ):
            return await _follow(session, url, limit, field, is_allowed)
    except _BlockedHost:
        raise JobError("BLOCKED_URL", f"the host of {field} is not allowed", field) from None
    except TimeoutError:
        raise JobError("DOWNLOAD_TIMEOUT", f"{field} was not downloaded within {timeout_s:g} s", field) from None
    except aiohttp.InvalidURL:
        raise JobError("INVALID_URL", f"{field} is not a valid http(s) URL", field) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error.__cause__ or error.__context__, _BlockedHost):
            raise JobError("BLOCKED_URL", f"the host of {field} is not allowed", field) from None
        raise JobError("DOWNLOAD_FAILED", f"{field} could not be downloaded", field) from None


async def _follow(
    session: aiohttp.ClientSession, url: str, limit: int, field: str, is_allowed: Callable[[str], bool]
) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        _check_url(url, field, is_allowed)
        async with session.get(url, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise JobError("DOWNLOAD_FAILED", f"the server of {field} answered HTTP {response.status}", field)
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise JobError("DOWNLOAD_FAILED", f"the server of {field} sent a compressed body", field)
            content = bytearray()
            if (response.content_length or 0) <= limit:
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > limit:
                        break
                else:
                    if not content:
                        raise JobError("DOWNLOAD_FAILED", f"the server of {field} sent an empty body", field)
                    return bytes(content)
            raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    raise JobError("DOWNLOAD_FAILED", f"{field} redirects more than {MAX_REDIRECTS} times", field)


def _check_url(url: str, field: str, is_allowed: Callable[[str], bool]) -> None:
    try:
        # The parser that aiohttp dials by, so that no other reading of the host can slip past.
        parts = URL(url)
        host = parts.raw_host
    except (ValueError, UnicodeError):
        raise JobError("INVALID_URL", f"{field} is not a valid http(s) URL", field) from None
    if parts.scheme not in ("http", "https") or not host or len(url) > 8000 or any(c.isspace() for c in url.strip()):
        raise JobError("INVALID_URL", f"{field} must be an http or https URL", field)
    numeric = re.fullmatch(r"[\d.]+|0x[0-9a-f.x]+", host) is not None or ":" in host
    if parts.raw_user is not None or parts.raw_password is not None or (numeric and not is_allowed(host)):
        raise _BlockedHost
