"""The worker's own HTTP, for a RunPod endpoint of type Load Balancer: the queue's input in, a file or JSON out.

There is no queue here: one request at a time, and 429 for any other.
"""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...contract.errors import JobError
from ..job import Answer, Worker
from ..series_job import PartOfSeriesError
from .live_run import LiveRun
from .readiness import STARTING, UNHEALTHY, Readiness

# The balancer's own limit, both ways.
MAX_BYTES = 30_000_000
MAX_ANSWER = MAX_BYTES - 1000
JSON_TYPE, EVENTS_TYPE, VIDEO_TYPE = "application/json", "text/event-stream", "video"
GONE = 499


class HttpFace:
    """Answers the balancer's health check, and one request at a time; `on_lost` is Readiness's."""

    def __init__(self, worker: Worker, on_lost: Callable[[], None]) -> None:
        self._worker = worker
        self._run: LiveRun | None = None
        self.readiness = Readiness(worker.process, on_lost)

    def application(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.add_api_route("/ping", self.ping, methods=["GET"])
        app.add_api_route("/video", self.video, methods=["POST"])

        @app.exception_handler(JobError)
        async def refused(_: Request, error: JobError) -> Response:
            return self._refusal(error)

        @app.exception_handler(ClientDisconnect)
        async def gone(_: Request, __: ClientDisconnect) -> Response:
            return Response(status_code=GONE)

        @app.exception_handler(HTTPException)
        async def nowhere(request: Request, error: HTTPException) -> Response:
            code = {405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "NOT_FOUND")
            return self._refusal(JobError(code, "this worker takes GET /ping and POST /video"))

        return app

    async def ping(self) -> Response:
        status = self.readiness.status()
        if status == STARTING:
            return Response(status_code=STARTING)
        word = "unhealthy" if status == UNHEALTHY else "busy" if self._is_busy else "ready"
        deadline_s = self._worker.settings.job_timeout_s
        return JSONResponse({"status": word, "deadline_s": deadline_s}, status)

    async def video(self, request: Request) -> Response:
        """Refuses what it can before the run: a body that is none, a worker that is busy."""
        body = _object(request, await _body(request))
        form = wanted_form(request.headers.get("accept", ""))
        if self.readiness.is_lost:
            raise JobError("COMFYUI_UNAVAILABLE", "this worker is about to be replaced")
        if self._is_busy:
            raise JobError("WORKER_BUSY", "this worker makes one video at a time, and has a request already")
        self._run = run = LiveRun(self._worker, body.get("input"), uuid.uuid4().hex, MAX_ANSWER, body.get("s3Config"))
        if form == EVENTS_TYPE:
            return _Events(run, self._events(run))
        try:
            output = await _unless_gone(request, run)
        except PartOfSeriesError as error:
            self._lose_by(error)
            output = error.answer.to_wire()
        return _file(output) or JSONResponse(output) if form == VIDEO_TYPE else JSONResponse(output)

    @property
    def _is_busy(self) -> bool:
        return self._run is not None and self._run.is_running

    async def _events(self, run: LiveRun) -> AsyncIterator[str]:
        """`accepted`, `progress` of every stage and step, then `result` or `error`."""
        yield _event("accepted", {"id": run.id, "deadline_s": self._worker.settings.job_timeout_s})
        async for progress in run.news():
            yield ": waiting\n\n" if progress is None else _event("progress", progress.to_wire())
        try:
            yield _event("result", {"output": await run.output()})
        except PartOfSeriesError as error:
            self._lose_by(error)
            yield _event("result", {"output": error.answer.to_wire()})
        except JobError as error:
            self._lose_by(error)
            yield _event("error", {"error": str(error), "status": error.failure.http_status})

    def _refusal(self, error: JobError) -> Response:
        self._lose_by(error)
        status = error.failure.http_status
        retry_s = self._run.seconds_left() if status == 429 and self._run is not None else None
        headers = {"Retry-After": str(round(retry_s))} if retry_s is not None else {}
        return JSONResponse({"error": str(error)}, status, headers)

    def _lose_by(self, error: JobError) -> None:
        if error.refresh_worker:
            self.readiness.lose()


class _Events(StreamingResponse):
    """Whichever way it ends, its run does not go on without it."""

    def __init__(self, run: LiveRun, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type=EVENTS_TYPE, headers={"Cache-Control": "no-store"})
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._run.give_up()


def wanted_form(accept: str) -> str:
    """By the first type of the Accept header that this worker has; JSON where it names none."""
    for part in accept.lower().split(","):
        kind = part.partition(";")[0].strip()
        if kind in (JSON_TYPE, EVENTS_TYPE):
            return kind
        if kind.startswith("video/"):
            return VIDEO_TYPE
    return JSON_TYPE


async def _unless_gone(request: Request, run: LiveRun) -> Answer:
    """The output, while its caller waits for it. Raises ClientDisconnect once it does not."""
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({gone, run.task}, return_when=asyncio.FIRST_COMPLETED)
        if not run.is_running:
            return await run.output()
        raise ClientDisconnect
    finally:
        gone.cancel()
        run.give_up()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise JobError("BODY_TOO_LARGE", f"the body must be at most {MAX_BYTES // 1_000_000} MB")
        chunks.append(chunk)
    return b"".join(chunks)


def _object(request: Request, body: bytes) -> dict[str, Any]:
    """The body, as a queue's /run takes it. The type of its content keeps pages of other origins out."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise JobError("INVALID_INPUT", f"the body must come as Content-Type: {JSON_TYPE}")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise JobError("INVALID_INPUT", "the body is not JSON") from None
    if not isinstance(value, dict) or "input" not in value:
        raise JobError("INVALID_INPUT", "the body must be a JSON object with an input", "input")
    return value


def _file(output: Answer) -> Response | None:
    """The file itself, or the way to it; None where the output is not one video alone, or tells of a last frame."""
    tells_of_frame = any("last_frame" in warning for warning in output.get("warnings") or ())
    if tells_of_frame or output.keys() & {"videos", "last_frame", "last_frame_url"}:
        return None
    if (link := output.get("video_url")) is not None:
        return Response(status_code=303, headers={"Location": link})
    if (video := output.get("video")) is None:
        return None
    headers = {"X-Wan-Relay-Seed": str(output["seed"])} if "seed" in output else {}
    return Response(base64.b64decode(video), media_type=output["format"], headers=headers)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
