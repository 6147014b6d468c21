"""The body of an OpenAI video: a form with a file, or JSON, to one object of fields with the picture as text."""

import base64
import json
import re
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from ...contract.errors import JobError
from ..http import MAX_BODY_BYTES, json_object, read_body, read_form

MAX_REFERENCE_BYTES = 20 * 1024 * 1024
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
REFERENCES = ("input_reference", "image_reference")  # OpenAI's name, vLLM-Omni's


async def fields_of(request: Request) -> tuple[dict[str, Any], bytes]:
    """The body's fields, a picture as data URI or URL under `input_reference`, and what the body is known again by."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith(FORMS):
        body = await read_body(request)
        return _with_reference(json_object(body)), body
    async with read_form(request, max_files=1, max_fields=100, max_part_size=MAX_BODY_BYTES) as form:
        given = [
            (name, value if isinstance(value, str) else await _uploaded(name, value))
            for name, value in form.multi_items()
        ]
    fields = _with_reference(_nested(given))
    return fields, json.dumps(fields, sort_keys=True).encode()


async def _uploaded(name: str, part: UploadFile) -> str:
    """The picture of a part as a data URI, of any other part nothing."""
    if name not in REFERENCES:
        return ""
    content = await part.read(MAX_REFERENCE_BYTES + 1)
    if len(content) > MAX_REFERENCE_BYTES:
        raise JobError("IMAGE_TOO_LARGE", f"{name} must be at most 20 MiB", name)
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii") if content else ""


def _nested(form: list[tuple[str, str]]) -> dict[str, Any]:
    """`input_reference[image_url]` of a form is an object's key."""
    fields: dict[str, Any] = {}
    for name, value in form:
        found = re.fullmatch(r"(input_reference|image_reference)\[(\w+)\]", name)
        if found and not isinstance(fields.get(found[1]), str):
            fields.setdefault(found[1], {})[found[2]] = value
        else:
            fields[name] = value
    return fields


def _with_reference(body: dict[str, Any]) -> dict[str, Any]:
    """The body with its picture, text or an object with image_url, as text under `input_reference`."""
    fields = {name: value for name, value in body.items() if name not in REFERENCES}
    value = next((body[name] for name in REFERENCES if body.get(name)), None)
    if isinstance(value, dict):
        value = value.get("image_url") or value.get("url")
        if isinstance(value, dict):
            value = value.get("url")
    if value is not None and not isinstance(value, str):
        raise JobError("INVALID_TYPE", "input_reference must be a file, or an object with image_url", "input_reference")
    return fields | ({"input_reference": value} if value else {})
