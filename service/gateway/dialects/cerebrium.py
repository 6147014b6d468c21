"""Cerebrium's `POST /cerebrium/v4/{project}/{app}/predict`, as seed 2 (`seeds/2-…`) describes it.

One call, whose connection is held until the video is there: minutes. The workflow is TI2V-5B's, from words alone or
with a picture. The seed's answer is bare; the platform itself puts it under `result`, which `?wrapped=true` asks for.
`?webhookEndpoint=URL` also posts the answer there, `?async=true` answers 202 with a `run_id` at once.
"""

import base64
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...contract.errors import JobError
from ...contract.failure import Failure
from ...contract.scalars import Prompt, Real, Text, Whole
from ...contract.video_request import parse_request
from ...tasks.task import Task, Webhook
from ..body_fault import body_fault, in_words_of, unknown_fields, without_nulls
from ..desk import Desk
from ..draft import Draft
from ..http import caller_of, json_object, read_body, submit_of
from ..picture_field import picture_field
from ..refusal import Refusal
from ..webhook_url import webhook_url

NAME = "cerebrium"
PREFIX = "/cerebrium/v4"
WEBHOOK_PAUSES_S = (5.0, 5.0)
WEBHOOK_RETRY_STATUSES = frozenset({404})  # and where nobody answers
RETENTION_S = 3600.0  # the provider keeps nothing; this long a lost answer can be fetched by the same call again
WAIT_S = 3600.0
WORKFLOW = "wan22_ti2v_5b"
SMALLEST = 64
PIECE = 3 * 256 * 1024  # bytes of the video in one piece of the answer: base64 of whole groups can be joined
NOBODY_TOLD = "async=true without webhookEndpoint=URL: the video is sent to nobody"
NAMES = {
    "image": "image_url",
    "length": "num_frames",
    "steps": "num_inference_steps",
    "cfg": "guidance_scale",
}


def _four_n_plus_one(value: int) -> int:
    if not 25 <= value <= 121 or value % 4 != 1:
        raise PydanticCustomError("OUT_OF_RANGE", "must be from 25 to 121 and of the form 4n+1 (25, 29, … 121)")
    return value


class PredictBody(BaseModel):
    """Extra fields are ignored, and named in a warning."""

    model_config = ConfigDict(extra="ignore")

    prompt: Prompt
    negative_prompt: Prompt = ""
    height: Whole = Field(704, ge=32, le=2048)
    width: Whole = Field(1280, ge=32, le=2048)
    num_frames: Annotated[Whole, AfterValidator(_four_n_plus_one)] = 121
    num_inference_steps: Whole = Field(50, ge=1, le=100)
    guidance_scale: Real = Field(5.0, ge=1, le=20)
    fps: Whole = Field(24, ge=1, le=60)
    seed: Whole | None = Field(None, ge=-(2**63), le=2**64 - 1)
    image_url: Text | None = None
    image_base64: Text | None = None


def parse(body: dict[str, Any], webhook: str | None = None, is_wrapped: bool = False) -> Draft:
    """`webhook` and `is_wrapped` are of the query. Raises JobError."""
    sent = without_nulls(body)
    try:
        order = PredictBody.model_validate(sent)
    except ValidationError as error:
        raise body_fault(error, PredictBody) from None
    request, _ = parse_request(
        {
            "workflow": WORKFLOW,
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "width": max(order.width, SMALLEST),
            "height": max(order.height, SMALLEST),
            "length": order.num_frames,
            "steps": order.num_inference_steps,
            "cfg": order.guidance_scale,
            "fps": order.fps,
            "seed": None if order.seed is None else order.seed % 2**64,
            **_picture(order),
        }
    )
    return Draft(
        request,
        model=WORKFLOW,
        warnings=tuple(_warnings(order, sent)),
        webhook=Webhook(url=webhook_url(webhook, "webhookEndpoint")) if webhook else None,
        retention_s=RETENTION_S,
        extras={"prompt": order.prompt, "negative_prompt": order.negative_prompt, "is_wrapped": is_wrapped},
    )


def _picture(order: PredictBody) -> dict[str, str]:
    """The URL counts where both came, as in the provider's own code; either field takes either."""
    return picture_field("image", order.image_url) or picture_field("image", order.image_base64)


def _warnings(order: PredictBody, sent: dict[str, Any]) -> list[str]:
    warnings = unknown_fields(sent, PredictBody)
    for name in ("width", "height"):
        if (pixels := getattr(order, name)) < SMALLEST:
            warnings.append(f"{name} {pixels} is less than can be made; it was raised to {SMALLEST}")
    if order.seed is not None and order.seed < 0:
        warnings.append(f"seed {order.seed} is negative; it was taken modulo 2^64, as {order.seed % 2**64}")
    if order.image_url and order.image_base64:
        warnings.append("image_base64 was ignored because image_url came too")
    return warnings


def render(task: Task) -> dict[str, Any]:
    """The `details` of a video: the values that were used."""
    answer = task.outcome.answer
    assert answer is not None
    details = {
        "prompt": task.order.extras["prompt"],
        "negative_prompt": task.order.extras["negative_prompt"],
        "height": answer.height,
        "width": answer.width,
        "num_frames": answer.length,
        "num_inference_steps": answer.steps,
        "guidance_scale": answer.high_noise_cfg,
        "fps": answer.fps,
        "seed": answer.seed,
    }
    return details | ({"warnings": list(task.warnings)} if task.warnings else {})


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    """The seed's 400, 401 and 500, with its words before ours; 404, 405, 413 and 429 stay what they are."""
    status = _status(failure)
    words = {400: "Invalid payload", 500: "Internal server error"}.get(status) or HTTPStatus(status).phrase
    return status, {"error": f"{words}: {in_words_of(failure, NAMES).sentence}", "code": failure.code}


def _status(failure: Failure) -> int:
    status = failure.http_status
    if status >= 500 or failure.code == "CANCELLED":
        return 500
    return 400 if status in (409, 422) else status


def _failure(task: Task) -> Failure:
    return task.outcome.failure or Failure(code="CANCELLED", sentence="the task was cancelled")


def _run_time_ms(task: Task) -> int:
    """By the executor's own clock where it said so: a database may keep whole seconds."""
    said_s = task.outcome.answer.timings.total_s if task.outcome.answer else None
    return round(1000 * (said_s or (task.finished_at_s or task.created_at_s) - task.created_at_s))


def _around(task: Task, inner: bytes) -> tuple[bytes, bytes]:
    """What comes before and after an object that begins with `inner`: nothing, or the platform's own wrapping."""
    if not task.order.extras["is_wrapped"]:
        return inner, b""
    head = json.dumps({"run_id": task.id, "run_time_ms": _run_time_ms(task)})[:-1]
    return f'{head}, "result": '.encode() + inner, b"}"


def _failed(task: Task, failure: Failure) -> tuple[int, bytes]:
    status, body = reject(failure, task.id)
    head, tail = _around(task, json.dumps(body).encode())
    return status, head + tail


def _body(task: Task, video: bytes) -> tuple[int, AsyncIterator[bytes]]:
    """The size of a video's answer, and its pieces."""
    head, tail = _around(task, b'{"video_base64": "')
    tail = b'", "details": ' + json.dumps(render(task)).encode() + b"}" + tail

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for start in range(0, len(video), PIECE):
            yield base64.b64encode(video[start : start + PIECE])
        yield tail

    return len(head) + 4 * ((len(video) + 2) // 3) + len(tail), pieces()


async def webhook(task: Task, desk: Desk) -> tuple[bytes, dict[str, str]]:
    """The body that the caller got, or would have got."""
    if task.state != "succeeded":
        return _failed(task, _failure(task))[1], {}
    try:
        video = await desk.video_bytes(task)
    except Refusal as refusal:
        if refusal.code != "NOT_FOUND":
            raise
        return json.dumps(reject(refusal.failure, task.id)[1]).encode(), {}
    _, pieces = _body(task, video)
    return b"".join([piece async for piece in pieces]), {}


def _yes(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise JobError("INVALID_VALUE", f"{name} must be true or false", name)
    return value in ("true", "1")


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.post("/{project}/{app}/predict")
    async def predict(request: Request) -> Response:
        caller = caller_of(request, desk)
        is_async, is_wrapped = _yes(request, "async"), _yes(request, "wrapped")
        body = await read_body(request)
        draft = parse(json_object(body), request.query_params.get("webhookEndpoint"), is_wrapped)
        task = await desk.submit(NAME, draft, caller, submit_of(request, body))
        if is_async:
            warnings = [*task.order.warnings, *([] if draft.webhook else [NOBODY_TOLD])]
            return JSONResponse({"run_id": task.id} | ({"warnings": warnings} if warnings else {}), 202)
        task = await desk.wait(task.id, caller, WAIT_S)
        if task.state != "succeeded":
            failure = _failure(task) if task.is_final else desk.why_no_end(WAIT_S)
            status, content = _failed(task, failure)
            return Response(content, status, media_type="application/json")
        size, pieces = _body(task, await desk.video_bytes(task))
        return StreamingResponse(pieces, media_type="application/json", headers={"Content-Length": str(size)})

    return router
