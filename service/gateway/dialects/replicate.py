"""Replicate's HTTP API as its official clients use it (providers.md 3), under `/replicate/v1`.

The clients disagree about whether the base address ends in `/v1`, so it may be missing, or be there twice.
"""

import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...contract.errors import JobError
from ...contract.failure import CODES, Failure
from ...contract.video_request import parse_request
from ...store.signed_paths import PathSigner, SignatureError
from ...tasks.task import Task, TaskState, Webhook
from ..body_fault import body_fault, in_words_of, unknown_fields
from ..desk import Desk
from ..draft import Draft
from ..http import base_url, caller_of, json_object, read_body, submit_of
from ..picture_field import picture_field
from ..refusal import Refusal
from ..webhook_url import webhook_url
from .replicate_files import file_routes
from .replicate_inputs import Model, in_lora_words, request_fields
from .replicate_models import model_named, model_of_version, model_routes

NAME = "replicate"
PREFIX = "/replicate"
API = "/replicate/v1"
RETENTION_S = 3600.0
WEBHOOK_PAUSES_S = (5.0, 30.0, 120.0, 600.0)
MAX_WAIT_S = 60.0
MARGIN_S = 0.25  # the clients stop reading half a second after the time that they asked for
STREAM_S = 24 * 3600.0
PAGE = 100
MAX_DEADLINE_S = 24 * 3600.0
EVENTS = ("start", "output", "logs", "completed")
BAR = 10
EIGHTHS = " ▏▎▍▌▋▊▉"
STATUS: dict[TaskState, str] = {
    "throttled": "starting",
    "queued": "starting",
    "running": "processing",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "canceled",
}
TITLES = {
    400: "Bad request",
    401: "Unauthenticated",
    404: "Not found",
    405: "Method not allowed",
    413: "Request entity too large",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
    507: "Service unavailable",
}
INPUT_FAULT = "Input validation failed"
PICTURES = ("image", "last_image")
FIELDS = {
    "image_url": "image",
    "image_base64": "image",
    "end_image_url": "last_image",
    "end_image_base64": "last_image",
    "end_image": "last_image",
    "length": "num_frames",
    "fps": "frames_per_second",
    "shift": "sample_shift",
    "interpolation_factor": "interpolate_output",
}
OF_THE_BODY = ("input", "version", "model", "webhook", "webhook_events_filter", "webhook_completed")


def parse(model: Model, body: dict[str, Any], headers: Mapping[str, str]) -> Draft:
    """`headers` by their names in lower case. Raises JobError."""
    given = body.get("input")
    if not isinstance(given, dict):
        raise JobError("INVALID_TYPE", "input must be an object", "input")
    sent = {name: value for name, value in given.items() if value is not None}
    try:
        order = model.input.model_validate(sent)
    except ValidationError as error:
        raise body_fault(error, model.input) from None
    fields, warnings = request_fields(order)
    request, more = parse_request(fields)
    deadline_s = _duration_s(headers.get("cancel-after"))
    return Draft(
        request,
        model=model.name,
        warnings=(*unknown_fields(sent, model.input, "input."), *warnings, *more),
        is_expansion_wanted=getattr(order, "optimize_prompt", False),
        webhook=_webhook(body),
        retention_s=RETENTION_S,
        end_deadline_s=deadline_s,
        extras={"input": {name: _shown(name, sent[name]) for name in model.input.model_fields if name in sent}},
    )


def _shown(name: str, value: Any) -> Any:
    """What a prediction tells of its input: no picture's bytes."""
    if name not in PICTURES or "image_base64" not in picture_field("image", value):
        return value
    head, comma, _ = value.strip().partition(",")
    return f"{head},…" if comma else "…"


def _webhook(body: dict[str, Any]) -> Webhook | None:
    """`webhook` with its filter, or `webhook_completed`, as older clients have it. Raises JobError."""
    if url := body.get("webhook"):
        events = body.get("webhook_events_filter") or []
        if not isinstance(events, list) or not all(event in EVENTS for event in events):
            sentence = f"webhook_events_filter must be a list of {', '.join(EVENTS)}"
            raise JobError("INVALID_VALUE", sentence, "webhook_events_filter")
        return Webhook(url=webhook_url(url, "webhook"), events=tuple(events))
    if url := body.get("webhook_completed"):
        return Webhook(url=webhook_url(url, "webhook_completed"), events=("completed",))
    return None


def _duration_s(text: str | None) -> float | None:
    """`90`, `90s`, `1m30s`, `2h`. Raises JobError."""
    if not text:
        return None
    found = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s?)?", text.strip())
    hours, minutes, seconds = (int(number or 0) for number in found.groups()) if found else (0, 0, 0)
    seconds += 3600 * hours + 60 * minutes
    if not 5 <= seconds <= MAX_DEADLINE_S:
        raise JobError("INVALID_VALUE", "Cancel-After must be a time from 5s to 24h, such as 1m30s", "Cancel-After")
    return float(seconds)


def wait_s(prefer: str | None) -> float:
    """How long a client wants the answer to a new prediction held back, by its Prefer header."""
    found = re.search(r"(?:^|[,;\s])wait(?:=(\d{1,3}))?(?:$|[,;\s])", prefer or "")
    if not found:
        return 0.0
    return max(min(float(found[1] or MAX_WAIT_S), MAX_WAIT_S) - MARGIN_S, 0.0)


def render(task: Task, base: str, output: str | None, stream_url: str, now_s: float) -> dict[str, Any]:
    """The prediction. `output` is the link to its file, None before it is there and after it went."""
    is_removed = task.is_removed(now_s)
    url = f"{base}{API}/predictions/{task.id}"
    failure = task.outcome.failure if status(task) == "failed" else None
    return {
        "id": task.id,
        "model": f"wan-video/{task.order.model}",
        "version": "hidden",
        "input": {} if is_removed else task.order.extras.get("input", {}),
        "output": None if is_removed else output,
        "logs": "" if is_removed else "\n".join((*log_lines(task), *bars(task))),
        "error": str(_in_inputs(failure)) if failure else None,
        "status": status(task),
        "created_at": _iso(task.created_at_s),
        "started_at": _iso(task.started_at_s),
        "completed_at": _iso(task.finished_at_s),
        "data_removed": is_removed,
        "source": "api",
        "metrics": _metrics(task),
        "urls": {"get": url, "cancel": f"{url}/cancel", "stream": stream_url, "web": url},
    }


def status(task: Task) -> str:
    """A prediction that came to the end of its `Cancel-After` is canceled, whether or not it had begun."""
    failure = task.outcome.failure
    if task.order.end_deadline_s is not None and failure is not None and failure.code == "TIMEOUT":
        return "canceled"
    return STATUS[task.state]


def log_lines(task: Task) -> list[str]:
    return [*(f"warning: {warning}" for warning in task.warnings), *(line.text for line in task.log)]


def bars(task: Task) -> list[str]:
    """A line for each step that is done, in the form that the clients read progress from (tqdm's)."""
    answer, progress = task.outcome.answer, task.progress
    step, steps = (progress.step, progress.steps) if progress else (0, 0)
    if answer is not None and answer.steps:
        step = steps = answer.steps
    return [_bar(done, steps) for done in range(step + 1)] if steps else []


def _bar(step: int, steps: int) -> str:
    full, part = divmod(round(step / steps * BAR * 8), 8)
    bar = ("█" * full + (EIGHTHS[part] if part else "")).ljust(BAR)
    return f"{step * 100 // steps:3}%|{bar}| {step}/{steps}"


def _metrics(task: Task) -> dict[str, float]:
    if task.finished_at_s is None:
        return {}
    metrics = {"total_time": round(task.finished_at_s - task.created_at_s, 3)}
    if task.started_at_s is not None:
        metrics["predict_time"] = round(task.finished_at_s - task.started_at_s, 3)
    return metrics


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    """Problem details, RFC 9457."""
    code = CODES[failure.code]
    if code.is_the_gateways or code.http_status >= 500 or failure.code == "INVALID_INPUT":
        detail = failure.sentence
        if code.http_status == 429:
            detail = f"Request was throttled. {detail[0].upper()}{detail[1:]}."
        return code.http_status, {
            "title": TITLES.get(code.http_status, "Error"),
            "detail": detail,
            "status": code.http_status,
            "instance": request_id,
        }
    failure = _in_inputs(failure)
    field = failure.field or "input"
    path = field if field in OF_THE_BODY or field == "Cancel-After" else f"input.{field}"
    fault = {"type": failure.code.lower(), "field": path, "description": failure.sentence}
    return 422, {
        "title": INPUT_FAULT,
        "detail": f"- {path}: {failure.sentence}\n",
        "status": 422,
        "instance": request_id,
        "invalid_fields": [fault],
    }


def _in_inputs(failure: Failure) -> Failure:
    """With the names that the provider's inputs have."""
    return in_words_of(in_lora_words(failure), FIELDS)


def reject_headers(failure: Failure) -> dict[str, str]:
    return {"Content-Type": "application/problem+json"}


def is_news(before: Task | None, after: Task) -> bool:
    """Which changes a webhook is told of, by its filter. Without a task before, it may have begun already."""
    webhook = after.order.webhook
    events = (webhook and webhook.events) or EVENTS
    if after.is_final:
        return "completed" in events or ("output" in events and after.state == "succeeded")
    if after.state != "running":
        return False
    if before is None or before.state != "running":
        return "start" in events
    return "logs" in events and (log_lines(before), bars(before)) != (log_lines(after), bars(after))


async def webhook(task: Task, desk: Desk) -> tuple[bytes, dict[str, str]]:
    """The prediction, signed as the svix scheme has it, with the owner's default secret."""
    content = json.dumps(shown(task, desk, task.order.base_url)).encode()
    message_id, at = f"msg_{task.id}_{task.state}", str(int(time.time()))
    signature = hmac.digest(_webhook_key(desk, task.order.owner), f"{message_id}.{at}.".encode() + content, "sha256")
    return content, {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def _webhook_key(desk: Desk, owner: str) -> bytes:
    return hmac.digest(desk.secret(NAME), f"webhooks of {owner}".encode(), "sha256")


def _stream_path(task_id: str) -> str:
    return f"{API}/streams/{task_id}"


def shown(task: Task, desk: Desk, base: str) -> dict[str, Any]:
    """The prediction with its links. The stream's needs no key: one of the clients sends none there."""
    base = desk.links.base(base)
    query = PathSigner(desk.secret(NAME)).sign(_stream_path(task.id), task.created_at_s + STREAM_S)
    stream_url = f"{base}{_stream_path(task.id)}?{query}"
    return render(task, base, desk.video_url(task, base), stream_url, time.time())


def created(task: Task, desk: Desk, base: str) -> dict[str, Any]:
    """In the answer to a new prediction: the clients take anything but `starting` for the end."""
    prediction = shown(task, desk, base)
    return prediction if task.is_final else prediction | {"status": "starting"}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    for prefix in ("/v1", "", "/v1/v1"):
        router.include_router(_predictions(desk), prefix=prefix)
        router.include_router(model_routes(desk), prefix=prefix)
        router.include_router(file_routes(desk), prefix=prefix)
    return router


def _predictions(desk: Desk) -> APIRouter:
    router = APIRouter()

    async def create(request: Request, model: Model | None) -> Response:
        """Without a model, the body's `version` says which."""
        caller = caller_of(request, desk)
        content = await read_body(request)
        body = json_object(content)
        draft = parse(model or model_of_version(body.get("version")), body, request.headers)
        task = await desk.submit(NAME, draft, caller, submit_of(request, content))
        patience_s = wait_s(request.headers.get("prefer"))
        if patience_s:
            task = await desk.wait(task.id, caller, patience_s)
        code = 202 if patience_s and not task.is_final else 201
        return JSONResponse(created(task, desk, base_url(request)), code)

    @router.post("/predictions")
    async def create_by_version(request: Request) -> Response:
        return await create(request, None)

    @router.post("/models/{owner}/{name}/predictions")
    async def create_by_model(request: Request, owner: str, name: str) -> Response:
        return await create(request, model_named(owner, name))

    @router.post("/deployments/{owner}/{name}/predictions")
    async def create_by_deployment(request: Request, owner: str, name: str) -> Response:
        return await create(request, model_named(None, name))

    @router.get("/predictions")
    async def listed(request: Request) -> Response:
        """The newest first, in pages."""
        caller = caller_of(request, desk)
        cursor = request.query_params.get("cursor", "0")
        offset = int(cursor) if cursor.isascii() and cursor.isdecimal() and len(cursor) < 8 else 0
        tasks = await desk.page(caller, NAME, PAGE + 1, offset)
        base = desk.links.base(base_url(request))
        page = f"{base}{API}/predictions?cursor="
        return JSONResponse(
            {
                "previous": f"{page}{max(offset - PAGE, 0)}" if offset else None,
                "next": f"{page}{offset + PAGE}" if len(tasks) > PAGE else None,
                "results": [shown(task, desk, base) for task in tasks[:PAGE]],
            }
        )

    @router.get("/predictions/{task_id}")
    async def one(request: Request, task_id: str) -> Response:
        task = await desk.get_own(task_id, caller_of(request, desk), NAME)
        return JSONResponse(shown(task, desk, base_url(request)))

    @router.post("/predictions/{task_id}/cancel")
    async def cancel(request: Request, task_id: str) -> Response:
        """One that has ended stays as it is."""
        caller = caller_of(request, desk)
        await desk.get_own(task_id, caller, NAME)
        task = await desk.cancel(task_id, caller)
        return JSONResponse(shown(task, desk, base_url(request)))

    @router.get("/streams/{task_id}")
    async def stream(request: Request, task_id: str) -> Response:
        try:
            PathSigner(desk.secret(NAME)).check(_stream_path(task_id), request.url.query, "GET", time.time())
        except SignatureError:
            await desk.get_own(task_id, caller_of(request, desk), NAME)
        if await desk.find(task_id) is None:
            raise Refusal("NOT_FOUND", "there is no such prediction")
        events = _events(task_id, desk, base_url(request))
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @router.get("/webhooks/default/secret")
    async def webhook_secret(request: Request) -> Response:
        key = _webhook_key(desk, caller_of(request, desk).id)
        return JSONResponse({"key": f"whsec_{base64.b64encode(key).decode()}"})

    @router.get("/account")
    async def account(request: Request) -> Response:
        name = caller_of(request, desk).name
        return JSONResponse({"type": "user", "username": name, "name": name, "github_url": None})

    return router


async def _events(task_id: str, desk: Desk, base: str) -> AsyncIterator[str]:
    """New lines of the log as they come, then the output or the error, then `done`."""
    told, told_bars, number = 0, 0, 0
    async for task in desk.follow(task_id):
        lines, steps = log_lines(task), bars(task)
        news = [*lines[told:], *steps[told_bars:]]
        told, told_bars = max(told, len(lines)), max(told_bars, len(steps))
        events = [("logs", "\n".join(news) + "\n")] if news else []
        if task.is_final:
            output = desk.video_url(task, base)
            end = {"succeeded": {}, "failed": {"reason": "error"}}.get(status(task), {"reason": "canceled"})
            events += [("output", output)] if output else []
            if status(task) == "failed" and (failure := task.outcome.failure):
                events.append(("error", json.dumps({"detail": str(_in_inputs(failure))})))
            events.append(("done", json.dumps(end)))
        for name, data in events:
            number += 1
            lines_of_data = "".join(f"data: {line}\n" for line in data.split("\n"))
            yield f"event: {name}\nid: {number}\n{lines_of_data}\n"
