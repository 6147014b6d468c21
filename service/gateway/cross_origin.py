"""What a page of another origin may do: CORS for the dialects, whose clients also run in browsers, and, without a key,
nothing.
"""

import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = re.compile(r"https?://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?")
_PORT = re.compile(r":[0-9]*$")


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


class OwnCallers:
    """ASGI middleware: where no key is needed, only this machine's own programs and pages are answered.

    A foreign page does not need to read an answer: it may post a text unasked. And its name may be bent to lead here,
    which makes the gateway a part of its own origin. A browser says so in Origin and in Host.
    """

    def __init__(self, app: ASGIApp, is_open: Callable[[], bool], public_url: str | None) -> None:
        self._app = app
        self._is_open = is_open
        self._public_url = public_url.lower() if public_url else None
        self._public_host = _PORT.sub("", urlsplit(public_url.lower()).netloc) if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = self._refusal(Headers(scope=scope)) if scope["type"] == "http" and self._is_open() else None
        app = JSONResponse({"error": sentence}, 403) if sentence else self._app
        await app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and not _LOOPBACK.fullmatch(origin) and origin != self._public_url:
            return _refusal("Origin", origin)
        name = _PORT.sub("", host.lower())
        if not _LOOPBACK.fullmatch(f"http://{name}") and name != self._public_host:
            return _refusal("Host", host)
        return None


def _refusal(header: str, value: str) -> str:
    own = "of this machine (localhost, 127.0.0.1, [::1]) or of WAN_RELAY_PUBLIC_URL"
    return f"a gateway without a key takes only the {header} {own}, not {value[:80]!r}"
