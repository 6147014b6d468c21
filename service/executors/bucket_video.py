"""A video that an endpoint put into its own bucket, fetched piece by piece."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from ..contract.errors import JobError
from ..media.addresses import TrustedHosts
from ..media.guarded_http import dialled_url, guarded_session, is_blocked
from ..tasks.task import Video
from .runpod_endpoint import PASSING, Pause

DOWNLOAD_S = 600.0
TRIES = 3
_PIECE = 256 * 1024


Pieces = AsyncIterator[bytes]


async def fetched(url: str, trusted: TrustedHosts, keep: Callable[[Callable[[], Pieces]], Awaitable[Video]]) -> Video:
    """What `keep` makes of the pieces; it is given them anew when they broke off. Raises JobError UPLOAD_FAILED."""
    pause = Pause()
    for left in reversed(range(TRIES)):
        try:
            return await keep(lambda: _pieces(url, trusted))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if left and _may_pass(error):
                await pause.wait()
                continue
            sentence = f"the video could not be fetched from the endpoint's bucket: {_why(error)}"
            raise JobError("UPLOAD_FAILED", sentence) from None
    raise AssertionError


async def _pieces(url: str, trusted: TrustedHosts) -> Pieces:
    timeout = aiohttp.ClientTimeout(total=DOWNLOAD_S)
    async with (
        guarded_session(trusted, timeout=timeout) as session,
        session.get(dialled_url(url), raise_for_status=True) as response,
    ):
        async for piece in response.content.iter_chunked(_PIECE):
            yield piece


def _may_pass(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in PASSING
    return not isinstance(error, ValueError) and not is_blocked(error)


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"it answered HTTP {error.status}"
    return "its host is not allowed" if is_blocked(error) else type(error).__name__
