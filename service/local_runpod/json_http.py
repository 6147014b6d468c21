"""JSON answers of both sides; an error is one sentence."""

import json
from typing import Any

from aiohttp import web


def answer(body: Any) -> web.Response:
    return web.json_response(body)


def error(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


def error_body(sentence: str) -> dict[str, Any]:
    return {"text": json.dumps({"error": sentence}), "content_type": "application/json"}
