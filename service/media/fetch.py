"""GET a client's URL: guarded hosts only, on every redirect too, within one deadline and byte cap."""

import asyncio

import aiohttp

from ..contract.errors import JobError
from .addresses import TrustedHosts
from .guarded_http import guarded_session, is_blocked
from .redirects import following


async def fetch(url: str, limit: int, timeout_s: float, field: str, trusted: TrustedHosts) -> bytes:
    """The body that the URL leads to. Raises JobError with that field."""
    timeout = aiohttp.ClientTimeout(total=None, connect=min(10.0, timeout_s))
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "wan-relay"}
    try:
        async with (
            asyncio.timeout(timeout_s),
            guarded_session(trusted, timeout=timeout, headers=headers, auto_decompress=False) as session,
            following(session, url, field, field) as response,
        ):
            return await _body(response, limit, field)
    except TimeoutError:
        raise JobError("DOWNLOAD_TIMEOUT", f"{field} was not downloaded within {timeout_s:g} s", field) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if is_blocked(error):
            raise JobError("BLOCKED_URL", f"the host of {field} is not allowed", field) from None
        raise JobError("DOWNLOAD_FAILED", f"{field} could not be downloaded", field) from None


async def _body(response: aiohttp.ClientResponse, limit: int, field: str) -> bytes:
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
