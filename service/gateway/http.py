"""What all dialects' HTTP has in common: bodies, callers, refusals, and what tells a POST from its repeat.

A dialect is a module with NAME, PREFIX, `reject(failure, ...)` and `routes(desk)`; `dialect_app` makes an application
of it that never answers in words other than the dialect's own.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..contract.errors import JobError
from ..contract.failure import Failure
from .cross_origin import CrossOrigin
from .desk import Desk
from .duplicates import Delivery, Submit
from .journal import trace, warn
from .keys import Caller
from .refusal import Refusal

MAX_BODY_BYTES = 120_000_000
EXPOSED_HEADERS = ("x-request-id", "retry-after")  # what a page may read of every answer
RETRY_HEADERS = ("x-stainless-retry-count", "x-retry-count")


class Dialect(Protocol):
    """A provider's words, as a module."""

    NAME: str
    PREFIX: str

    def reject(self, failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
        """The status and the body of an answer that refuses."""

    def routes(self, desk: Desk) -> APIRouter: ...


def dialect_app(dialect: Any, desk: Desk, **options: Any) -> FastAPI:
    """`options` are FastAPI's; without a title there is no page about the API."""
    if not options:
        options = {"openapi_url": None}
    app = FastAPI(**options, middleware=[Middleware(LastResort, dialect=dialect)])
    app.include_router(dialect.routes(desk))

    def answer(failure: Failure, request: Request, retry_after_s: int | None = None) -> Response:
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}
        return refused(dialect, failure, request.scope, headers)

    @app.exception_handler(JobError)
    async def refuse(request: Request, error: JobError) -> Response:
        return answer(error.failure, request, getattr(error, "retry_after_s", None))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        code = code_of(error)
        sentence = {
            "NOT_FOUND": "there is nothing at this address",
            "METHOD_NOT_ALLOWED": f"{request.method} is not what this address takes",
        }.get(code, str(error.detail))
        return answer(Failure(code=code, sentence=sentence), request)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1]) if first["loc"] else None
        return answer(Failure(code="INVALID_VALUE", sentence=f"{field}: {first['msg'].lower()}", field=field), request)

    exposed = (*EXPOSED_HEADERS, *getattr(dialect, "EXPOSED_HEADERS", ()))
    app.add_middleware(CrossOrigin, exposed_headers=exposed, is_open=lambda: desk.is_open)
    return app


class LastResort:
    """ASGI middleware: a fault of the gateway's own, in the dialect's words.

    Not an exception handler: Starlette raises again what its handler of Exception has answered.
    """

    def __init__(self, app: ASGIApp, dialect: Dialect) -> None:
        self._app = app
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts_of(scope)["dialect"] = self._dialect.NAME
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            if not has_begun:
                await Response(status_code=499)(scope, receive, send)
        except Exception as error:
            warn("fault", request_id=scope.get("wan_relay_request_id"), dialect=self._dialect.NAME, error=trace(error))
            if has_begun:
                raise
            failure = Failure(code="INTERNAL_ERROR", sentence="the gateway failed; its log says more")
            await refused(self._dialect, failure, scope)(scope, receive, send)


def code_of(error: HTTPException) -> str:
    """Of an address or a method that nobody serves."""
    return {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "INVALID_INPUT")


def refused(dialect: Dialect, failure: Failure, scope: Scope, headers: dict[str, str] | None = None) -> Response:
    """The dialect's answer to a request that came to nothing."""
    status, body = dialect.reject(failure, scope.get("wan_relay_request_id", ""))
    own_headers: dict[str, str] = getattr(dialect, "reject_headers", lambda _: {})(failure)
    return JSONResponse(body, status, {**(headers or {}), **own_headers})


def facts_of(scope: Scope) -> dict[str, Any]:
    """What is known of a request, for its line in the journal: `dialect`, `key`."""
    facts: dict[str, Any] = scope.setdefault("wan_relay_facts", {})
    return facts


def caller_of(request: Request, desk: Desk) -> Caller:
    """By the Authorization header, else by X-Api-Key. Raises Refusal UNAUTHORIZED."""
    caller = desk.caller(request.headers.get("authorization") or request.headers.get("x-api-key"))
    facts_of(request.scope)["key"] = caller.name
    return caller


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """Raises Refusal BODY_TOO_LARGE as soon as it is known."""
    return b"".join([chunk async for chunk in _within(request, limit).stream()])


@asynccontextmanager
async def read_form(request: Request, limit: int = MAX_BODY_BYTES, **limits: int) -> AsyncIterator[FormData]:
    """The form of a body, whose files are on the disk until the block ends. `limits` are those of Starlette's form.

    Raises Refusal BODY_TOO_LARGE as soon as it is known.
    """
    async with _within(request, limit).form(**limits) as form:
        yield form


def _within(request: Request, limit: int) -> Request:
    """The same request, whose body is refused where it goes on after `limit` bytes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return Request(request.scope, receive)


def _too_large(limit: int) -> Refusal:
    return Refusal("BODY_TOO_LARGE", f"the body must be at most {limit // 1_000_000} MB")


def json_object(body: bytes) -> dict[str, Any]:
    """Raises Refusal INVALID_INPUT for anything but a JSON object. NaN and Infinity are no JSON."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal("INVALID_INPUT", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refusal("INVALID_INPUT", "the body must be a JSON object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


def submit_of(request: Request, body: bytes) -> Submit:
    """What the headers and the body say about whether this POST repeats another."""
    target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    key = request.headers.get("idempotency-key", "")[:200]  # of one address: another has other tasks
    is_retry = any(request.headers.get(name, "0").strip() not in ("", "0") for name in RETRY_HEADERS)
    return Submit(
        base_url=base_url(request),
        digest=hashlib.sha256(target + body).hexdigest(),
        is_retry=is_retry,
        idempotency_key=f"{request.url.path} {key}" if key else "",
        request_id=request.scope.get("wan_relay_request_id", ""),
        delivery=request.scope.setdefault("wan_relay_delivery", Delivery()),
    )


def base_url(request: Request) -> str:
    """Scheme and host as the client used them: what the links in an answer begin with."""
    return f"{request.url.scheme}://{request.url.netloc}"
