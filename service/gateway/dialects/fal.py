"""fal's queue, run, proxy, storage and webhooks, as its official clients use them (providers.md 2), under `/fal`.

The clients reach what is four hosts at fal by four folders here: `/fal/queue`, `/fal/run`, `/fal/rest`, `/fal/cdn`;
`/fal/proxy` takes all of them, told apart by the URL that the client would have called.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...contract.errors import JobError
from ...contract.failure import CODES, Failure
from ...contract.video_request import parse_request
from ...tasks.task import LogLine, Task, Webhook
from ..body_fault import in_words_of, unknown_fields
from ..desk import Desk
from ..draft import Draft
from ..http import base_url, json_object, read_body, submit_of
from ..refusal import Refusal
from ..webhook_url import webhook_url
from .fal_inputs import MODELS, in_lora_words, request_fields
from .fal_storage import caller_of_fal, rest, storage_routes, with_signed_links
from .fal_webhooks import signed_headers

NAME = "fal"
PREFIX = "/fal"
RETENTION_S = 7 * 24 * 3600.0
MAX_RETENTION_S = 30 * 24 * 3600.0
WEBHOOK_PAUSES_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3000.0)  # ten tries in two hours
RUN_S = 24 * 3600.0
LOW_PRIORITY = 1
TARGETS = {"queue.fal.run": "queue", "fal.run": "run", "rest.fal.ai": "rest", "rest.alpha.fal.ai": "rest"}
EXPOSED_HEADERS = ("x-fal-request-id", "x-fal-error-type", "x-fal-request-timeout-type", "x-fal-retryable")
STATUS = {"throttled": "IN_QUEUE", "queued": "IN_QUEUE", "running": "IN_PROGRESS"}
NOT_READY = "Request is still in progress"

# What is no fault of the input: the status of the answer, and fal's word for it.
ERROR_TYPES: dict[str, tuple[int, str]] = {
    "MODEL_MISSING": (500, "runner_server_error"),
    "MODEL_REFUSED": (500, "runner_server_error"),
    "NODE_MISSING": (500, "runner_server_error"),
    "EXECUTION_FAILED": (500, "runner_server_error"),
    "OUT_OF_MEMORY": (500, "runner_server_error"),
    "NO_OUTPUT": (500, "runner_server_error"),
    "RESULT_TOO_LARGE": (500, "runner_server_error"),
    "UPLOAD_FAILED": (500, "internal_error"),
    "DISK_FULL": (500, "runner_server_error"),
    "GPU_ERROR": (503, "runner_disconnected"),
    "COMFYUI_UNAVAILABLE": (503, "runner_connection_refused"),
    "COMFYUI_CRASHED": (503, "runner_disconnected"),
    "INTERRUPTED": (503, "runner_disconnected"),
    "TIMEOUT": (504, "request_timeout"),
    "CANCELLED": (499, "client_cancelled"),
    "QUEUE_UNAVAILABLE": (503, "runner_scheduling_failure"),
    "STORE_FULL": (503, "internal_error"),
    "STORE_UNAVAILABLE": (503, "internal_error"),
    "INTERNAL_ERROR": (500, "internal_error"),
}
PLAIN = ("UNAUTHORIZED", "NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "RATE_LIMITED", "QUEUE_FULL")
INPUT_TYPES = {
    "MISSING_FIELD": "missing",
    "INVALID_TYPE": "type_error",
    "INVALID_IMAGE": "image_load_error",
    "IMAGE_TOO_LARGE": "image_too_large",
    "IMAGE_TOO_SMALL": "image_too_small",
    "DOWNLOAD_FAILED": "file_download_error",
    "DOWNLOAD_TIMEOUT": "file_download_error",
    "BLOCKED_URL": "file_download_error",
    "FILE_NOT_FOUND": "file_download_error",
}
FIELDS = {
    "image": "image_url",
    "image_base64": "image_url",
    "end_image_base64": "end_image_url",
    "length": "num_frames",
    "fps": "frames_per_second",
    "steps": "num_inference_steps",
    "interpolation_factor": "num_interpolated_frames",
    "high_strength": "scale",
    "low_strength": "scale",
}


class InvalidInput(JobError):
    """All that is wrong with an input, as fal lists it."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__("INVALID_VALUE", details[0]["msg"], str(details[0]["loc"][-1]))
        self.details = details


@dataclass(frozen=True)
class Call:
    """A request, and what it is about wherever it came in: `path` after the folder, and its query."""

    request: Request
    path: str
    query: Mapping[str, str]


def parse(model_id: str, body: dict[str, Any], query: Mapping[str, str], headers: Mapping[str, str]) -> Draft:
    """`headers` by their names in lower case. Raises JobError."""
    model = MODELS.get(model_id.strip("/").lower())
    if model is None:
        raise Refusal("NOT_FOUND", f"there is no application {model_id[:80]!r} here; there are {', '.join(MODELS)}")
    sent = {name: value for name, value in body.items() if value is not None}
    try:
        order = model.input.model_validate(sent)
    except ValidationError as error:
        raise InvalidInput(_details(error)) from None
    fields, warnings = request_fields(model, order)
    request, more = parse_request(fields)
    url = query.get("fal_webhook")
    return Draft(
        request,
        model=model_id,
        warnings=(*unknown_fields(sent, model.input), *warnings, *more),
        is_expansion_wanted=order.enable_prompt_expansion,
        webhook=Webhook(url=webhook_url(url, "fal_webhook")) if url else None,
        retention_s=_retention_s(headers),
        start_deadline_s=_number(headers.get("x-fal-request-timeout")),
        priority=LOW_PRIORITY if headers.get("x-fal-queue-priority", "").strip().lower() == "low" else 0,
        extras={"prompt": order.prompt},
    )


def _details(error: ValidationError) -> list[dict[str, Any]]:
    found = error.errors(include_url=False, include_input=False)
    return [
        {
            "loc": ["body", *each["loc"]],
            "msg": each["msg"],
            "type": INPUT_TYPES.get(each["type"], each["type"].lower()),
            **({"ctx": each["ctx"]} if each.get("ctx") else {}),
        }
        for each in found
    ]


def _retention_s(headers: Mapping[str, str]) -> float:
    """How long the client wants its output kept; a wish that cannot be read counts for nothing."""
    wish = headers.get("x-fal-object-lifecycle-preference") or headers.get("x-fal-object-lifecycle") or "{}"
    try:
        seconds = float(json.loads(wish)["expiration_duration_seconds"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return RETENTION_S
    return min(max(seconds, 60.0), MAX_RETENTION_S) if seconds > 0 else RETENTION_S


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def render_status(task: Task, has_logs: bool) -> dict[str, Any]:
    """A status has neither output nor timings; `logs` is always there."""
    urls = _urls(task)
    body: dict[str, Any] = {"status": STATUS.get(task.state, "COMPLETED"), "request_id": task.id, **urls}
    if body["status"] == "IN_QUEUE":
        return body | {"queue_position": task.queue_position or 0}
    body["logs"] = _logs(task) if has_logs else None
    if task.is_final:
        body["metrics"] = {"inference_time": round((task.finished_at_s or 0) - (task.started_at_s or 0), 3)}
        if task.started_at_s is None:
            body["metrics"] = {}
        if (failure := failure_of(task)) is not None:
            body |= {"error": failure.sentence, "error_type": _error_type(task, failure)}
    return body


def render(task: Task, video_url: str | None) -> dict[str, Any]:
    """The model's output, of a task that has one. `video_url` is None when the file is kept no longer."""
    answer, video = task.outcome.answer, task.outcome.video
    assert answer is not None
    assert video is not None
    file = {
        "url": video_url,
        "content_type": answer.format,
        "file_name": video.key.rpartition("/")[2],
        "file_size": video.size,
    }
    prompt = task.order.expanded_prompt or task.order.extras.get("prompt", "")
    output = {"video": file, "prompt": prompt, "seed": answer.seed}
    return output | ({"warnings": list(task.warnings)} if task.warnings else {})


def failure_of(task: Task) -> Failure | None:
    """Why a task that has ended has no video."""
    if task.state == "cancelled":
        return Failure(code="CANCELLED", sentence="the request was cancelled")
    return task.outcome.failure


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    """Three shapes: a list for a wrong input, `error_type` for a fault of the machine, a text for the rest."""
    if failure.code in PLAIN:
        return CODES[failure.code].http_status, {"detail": failure.sentence}
    if failure.code in ERROR_TYPES:
        status, error_type = ERROR_TYPES[failure.code]
        return status, {"detail": failure.sentence, "error_type": error_type}
    failure = in_words_of(in_lora_words(failure), FIELDS)
    detail = {
        "loc": ["body", *([failure.field] if failure.field else [])],
        "msg": failure.sentence,
        "type": INPUT_TYPES.get(failure.code, "value_error"),
    }
    return 422, {"detail": [detail]}


def reject_headers(failure: Failure) -> dict[str, str]:
    headers = {"X-Fal-Retryable": "true" if failure.is_retryable else "false"}
    if failure.code in ERROR_TYPES:
        headers["X-Fal-Error-Type"] = ERROR_TYPES[failure.code][1]
    return headers


def _error_type(task: Task, failure: Failure) -> str | None:
    if failure.code == "TIMEOUT" and task.started_at_s is None:
        return "startup_timeout"
    return ERROR_TYPES.get(failure.code, (0, None))[1] or reject(failure, "")[1]["detail"][0]["type"]


def _failed(task: Task, failure: Failure) -> tuple[int, dict[str, Any], dict[str, str]]:
    status, body = reject(failure, task.id)
    headers = reject_headers(failure)
    if failure.code == "TIMEOUT" and task.started_at_s is None:
        body["error_type"] = headers["X-Fal-Error-Type"] = "startup_timeout"
        headers["X-Fal-Request-Timeout-Type"] = "user"
    return status, body, headers


def _logs(task: Task) -> list[dict[str, str]]:
    said = [_log_item(line, "INFO") for line in task.log]
    warned_at = LogLine(at_s=task.created_at_s, text="")
    return [_log_item(warned_at.model_copy(update={"text": text}), "WARN") for text in task.warnings] + said


def _log_item(line: LogLine, level: str) -> dict[str, str]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.at_s))
    fraction = f"{line.at_s % 1:.3f}"[1:] if line.at_s % 1 < 0.9995 else ".999"
    return {"message": line.text, "level": level, "source": "run", "timestamp": f"{moment}{fraction}+00:00"}


def _urls(task: Task, base: str = "") -> dict[str, str]:
    """Requests are found by the first two parts of the model's id, whatever follows."""
    owner, alias = task.order.model.strip("/").lower().split("/")[:2]
    url = f"{base or task.order.base_url}{PREFIX}/queue/{owner}/{alias}/requests/{task.id}"
    return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}


async def webhook(task: Task, desk: Desk) -> tuple[bytes, dict[str, str]]:
    """`OK` with the output, or `ERROR` with what the result's address answers; signed with the gateway's own key."""
    body: dict[str, Any] = {"request_id": task.id, "gateway_request_id": task.id}
    if (failure := failure_of(task)) is not None:
        status, payload, _ = _failed(task, failure)
        body |= {"status": "ERROR", "error": f"Invalid status code: {status}", "payload": payload}
    else:
        body |= {"status": "OK", "payload": render(task, desk.video_url(task))}
    content = json.dumps(body).encode()
    return content, signed_headers(desk.secret(NAME), task.id, task.order.owner, int(time.time()), content)


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    async def submit(call: Call, *, is_queued: bool) -> Response:
        caller = caller_of_fal(call.request, desk)
        content = await read_body(call.request)
        try:
            draft = parse(call.path, json_object(content), call.query, call.request.headers)
        except InvalidInput as error:
            return JSONResponse({"detail": error.details}, 422, reject_headers(error.failure))
        known = submit_of(call.request, content)
        target = json.dumps([is_queued, call.path.lower(), sorted(call.query.items())])
        known = replace(known, digest=hashlib.sha256(f"{target}{known.digest}".encode()).hexdigest())
        task = await desk.submit(NAME, with_signed_links(draft, desk, known.base_url), caller, known)
        if not is_queued:
            task = await desk.wait(task.id, caller, RUN_S)
            return result(task, call.request, None if task.is_final else desk.why_no_end(RUN_S))
        body = (
            render_status(task, False)
            | _urls(task, desk.links.base(base_url(call.request)))
            | {"gateway_request_id": task.id}
        )
        return JSONResponse(body, headers={"x-fal-request-id": task.id})

    def result(task: Task, request: Request, failure: Failure | None = None) -> Response:
        """`failure` is why a call that waits has nothing of a task that goes on."""
        headers = {"x-fal-request-id": task.id}
        failure = failure or failure_of(task)
        if not task.is_final and failure is None:
            return JSONResponse({"detail": NOT_READY}, 400, headers)
        if failure is not None:
            status, body, more = _failed(task, failure)
            return JSONResponse(body, status, headers | more)
        return JSONResponse(render(task, desk.video_url(task, base_url(request))), headers=headers)

    def status_of(task: Task, call: Call) -> dict[str, Any]:
        has_logs = call.query.get("logs", "").lower() in ("1", "true")
        return render_status(task, has_logs) | _urls(task, desk.links.base(base_url(call.request)))

    async def ask(call: Call, task_id: str, what: str) -> Response:
        """The result, the status once or as it changes, of a request that is found by its id alone."""
        task = await desk.get_own(task_id, caller_of_fal(call.request, desk), NAME)
        if what == "status/stream":
            return StreamingResponse(_events(desk, task, call, status_of), media_type="text/event-stream")
        if what == "status":
            status = 200 if task.is_final else 202
            return JSONResponse(status_of(task, call), status, {"x-fal-request-id": task.id})
        return result(task, call.request)

    async def cancel(call: Call, task_id: str) -> Response:
        try:
            caller = caller_of_fal(call.request, desk)
            if (await desk.get_own(task_id, caller, NAME)).is_final:
                return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
            await desk.cancel(task_id, caller)
        except Refusal as error:
            if error.code != "NOT_FOUND":
                raise
            return JSONResponse({"status": "NOT_FOUND"}, 404)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    async def queue(call: Call) -> Response:
        found = _REQUEST.fullmatch(call.path)
        method = call.request.method
        if found is None and method == "POST":
            return await submit(call, is_queued=True)
        if found and found["what"] == "cancel" and method == "PUT":
            return await cancel(call, found["id"])
        if found and found["what"] != "cancel" and method == "GET":
            return await ask(call, found["id"], found["what"] or "response")
        raise Refusal("METHOD_NOT_ALLOWED", f"{method} is not what this address takes")

    async def run(call: Call) -> Response:
        if call.request.method != "POST":
            raise Refusal("METHOD_NOT_ALLOWED", f"{call.request.method} is not what this address takes")
        return await submit(call, is_queued=False)

    folders = {"queue": queue, "run": run, "rest": lambda call: rest(desk, call.request, call.path)}

    @router.api_route("/proxy", methods=["GET", "POST", "PUT"])
    @router.api_route("/proxy/{rest:path}", methods=["GET", "POST", "PUT"])
    async def proxy(request: Request) -> Response:
        """The target says what is asked for. Nothing is ever sent there."""
        folder, call = _target(request)
        return await folders[folder](call)

    @router.api_route("/queue/{path:path}", methods=["GET", "POST", "PUT"])
    async def queue_route(request: Request, path: str) -> Response:
        return await queue(Call(request, path, request.query_params))

    @router.api_route("/run/{path:path}", methods=["GET", "POST", "PUT"])
    async def run_route(request: Request, path: str) -> Response:
        return await run(Call(request, path, request.query_params))

    router.include_router(storage_routes(desk))
    return router


_REQUEST = re.compile(
    r"[^/]+/[^/]+(?:/.+)?/requests/(?P<id>[^/]+)(?:/(?P<what>status/stream|status|cancel|response))?/?"
)


def _target(request: Request) -> tuple[str, Call]:
    """Raises Refusal for a host that is none of fal's."""
    parts = urlsplit(request.headers.get("x-fal-target-url", ""))
    folder = TARGETS.get(parts.netloc.lower()) if parts.scheme == "https" else None
    if folder is None:
        raise JobError("INVALID_VALUE", "x-fal-target-url must name one of fal's own hosts", "x-fal-target-url")
    return folder, Call(request, parts.path.lstrip("/"), dict(parse_qsl(parts.query, keep_blank_values=True)))


async def _events(desk: Desk, task: Task, call: Call, status_of: Any) -> AsyncIterator[str]:
    async for news in desk.follow(task.id):
        yield f"data: {json.dumps(status_of(news, call))}\n\n"
