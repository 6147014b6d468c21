"""What a page of another origin may do: CORS for the dialects, whose clients also run in browsers."""

import re
from collections.abc import Callable, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")


class CrossOrigin(CORSMiddleware):
    """Where a key is needed, any page may come, since only one that has the key gets anywhere. Where none is, only
    pages of this machine may: any other would use it behind the back of whoever sits there.
    """

    def __init__(self, app: ASGIApp, exposed_headers: Sequence[str], is_open: Callable[[], bool]) -> None:
        super().__init__(
            app, allow_methods=["*"], allow_headers=["*"], expose_headers=exposed_headers, max_age=24 * 3600
        )
        self._is_open = is_open

    def is_allowed_origin(self, origin: str) -> bool:
        return not self._is_open() or _LOOPBACK.fullmatch(origin) is not None
