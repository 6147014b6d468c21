"""JSON in, JSON out: bodies that are read within a limit and parsed strictly, refusals as {"error": one sentence}."""

import asyncio
import collections
import json
import math
from typing import Any

from aiohttp import web
from pydantic_core import from_json

MAX_MARKS = 50_000  # parsing holds the interpreter, and so the event loop: this many for about a tenth of a second
MAX_PAUSE_S = 30.0  # between two pieces of a body; aiohttp itself waits for ever, also after a broken chunk
MAX_QUOTED = 40


class Refusal(Exception):
    """Answered with this HTTP status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


@web.middleware
async def refusals_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except Refusal as refusal:
        return web.json_response({"error": str(refusal)}, status=refusal.status)
    except web.HTTPException as refusal:  # the router's own
        allow = {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else None
        return web.json_response({"error": refusal.reason.lower()}, status=refusal.status, headers=allow)
    return response


async def read_json(request: web.Request, limit: int) -> Any:
    """The body as `parse_json` reads it. Raises Refusal, for one over `limit` bytes before more of it has come."""
    content = await read_body(request, limit)
    try:
        return await asyncio.to_thread(parse_json, content)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


async def read_body(request: web.Request, limit: int) -> bytes:
    """What came, decompressed where the client compressed it. Raises Refusal."""
    too_large = Refusal(400, f"the body is larger than {limit / 1e6:g} MB")
    if (request.content_length or 0) > limit:
        raise too_large
    content = bytearray()
    try:
        while chunk := await _next_piece(request):
            content += chunk
            if len(content) > limit:
                raise too_large
    except (web.RequestPayloadError, ConnectionError):
        raise Refusal(400, "the body does not come as its headers say") from None
    except TimeoutError:
        raise Refusal(408, f"nothing more of the body came for {MAX_PAUSE_S:g} s") from None
    return bytes(content)


async def _next_piece(request: web.Request) -> bytes:
    async with asyncio.timeout(MAX_PAUSE_S):
        return await request.content.readany()


def parse_json(content: bytes) -> Any:
    """I-JSON (RFC 7493): UTF-8 without half pairs, no key twice, numbers that a double can hold; at most 200 deep.

    Raises ValueError with a sentence.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_MARKS:
        raise ValueError(f"the body has more than {MAX_MARKS} commas and brackets")
    try:
        from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"the body is not valid JSON: {error}") from None
    return json.loads(content, object_pairs_hook=_object, parse_int=_integer, parse_float=_float)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key, _ = collections.Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the body has the key {key[:MAX_QUOTED]!r} twice")
    return found


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("the body has a number out of range")
    return value


def _integer(text: str) -> int:
    _float(text)
    return int(text)
