"""GET a client's URL: guarded hosts only, on every redirect too, within one deadline and byte cap."""

import asyncio
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from ..contract.errors import JobError
from .addresses import TrustedHosts
from .guarded_http import BadUrl, dialled_url, guarded_session, is_blocked

MAX_REDIRECTS = 5


async def fetch(url: str, limit: int, timeout_s: float, field: str, trusted: TrustedHosts) -> bytes:
    """The body that the URL leads to. Raises JobError with that field."""
    timeout = aiohttp.ClientTimeout(total=None, connect=min(10.0, timeout_s))
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "wan-relay"}
    try:
        async with (
            asyncio.timeout(timeout_s),
            guarded_session(trusted, timeout=timeout, headers=headers, auto_decompress=False) as session,
        ):
            return await _follow(session, url, limit, field)
    except TimeoutError:
        raise JobError("DOWNLOAD_TIMEOUT", f"{field} was not downloaded within {timeout_s:g} s", field) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if is_blocked(error):
            raise JobError("BLOCKED_URL", f"the host of {field} is not allowed", field) from None
        raise JobError("DOWNLOAD_FAILED", f"{field} could not be downloaded", field) from None


async def _follow(session: aiohttp.ClientSession, url: str, limit: int, field: str) -> bytes:
    subject = field
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(_checked(url, subject, field), allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                url = urljoin(url, response.headers.get("Location", ""))
                subject = f"the redirect of {field}"
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


def _checked(url: str, subject: str, field: str) -> URL:
    try:
        checked = dialled_url(url)
    except BadUrl as error:
        raise JobError("INVALID_URL", f"{subject} {error}", field) from None
    if checked.raw_user is not None or checked.raw_password is not None:
        raise JobError("BLOCKED_URL", f"{subject} must not carry a user name or password", field)
    return checked
