"""A GET that follows redirects, each of which is checked before it is dialled."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from ..contract.errors import JobError
from .guarded_http import BadUrl, dialled_url

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)

# (where a call goes, whose URL that is in words) -> the call's own headers. Raises JobError for a place not to go to.
HeadersFor = Callable[[URL, str], dict[str, str]]


@asynccontextmanager
async def following(
    session: aiohttp.ClientSession, url: str, name: str, field: str, headers_for: HeadersFor = lambda url, subject: {}
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The first answer that is no redirect; `name` is what the URL is called in a sentence.

    Raises JobError with that field, and what the session raises.
    """
    subject = name
    for _ in range(MAX_REDIRECTS + 1):
        target = _checked(url, subject, field)
        async with session.get(target, headers=headers_for(target, subject), allow_redirects=False) as response:
            if response.status not in _REDIRECTS:
                yield response
                return
            url = urljoin(url, response.headers.get("Location", ""))
            subject = f"the redirect of {name}"
    raise JobError("DOWNLOAD_FAILED", f"{name} redirects more than {MAX_REDIRECTS} times", field)


def _checked(url: str, subject: str, field: str) -> URL:
    try:
        checked = dialled_url(url)
    except BadUrl as error:
        raise JobError("INVALID_URL", f"{subject} {error}", field) from None
    if checked.raw_user is not None or checked.raw_password is not None:
        raise JobError("BLOCKED_URL", f"{subject} must not carry a user name or password", field)
    return checked
