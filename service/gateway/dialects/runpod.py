"""RunPod's serverless API as its clients use it, `/runpod/v2/{endpoint}/…`, with the input and output of seed 1.

`runpod.md` is what the platform does. Here a fault of the input is refused at once (400), where the platform would take
the job and fail it; jobs are seen by the key that made them alone; and there are no caps on what comes in but the
gateway's own. A video that is too large for the platform's answer comes as `video_url`.
"""

import json
import re
import time
from collections import OrderedDict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from ...contract.errors import JobError
from ...contract.failure import Failure
from ...contract.graph_request import brings_graph
from ...contract.progress import Progress
from ...contract.scalars import Flag, Whole
from ...contract.video_request import is_ping, parse_request
from ...tasks.task import Task, TaskState, Webhook
from ..body_fault import body_fault, unknown_fields
from ..desk import Desk
from ..draft import Draft
from ..http import base_url, caller_of, json_object, read_body, submit_of
from ..keys import Caller
from ..refusal import Refusal
from ..webhook_url import webhook_url

NAME = "runpod"
PREFIX = "/runpod/v2"
WEBHOOK_PAUSES_S = (10.0, 10.0)
RETENTION_S = 30 * 60.0
SYNC_RETENTION_S = (60.0, 300.0)  # a minute, or as long as the caller was ready to wait
CAP = 10_000_000  # bytes of an answer
SYNC_CAP = 20_000_000
MIN_WAIT_MS, DEFAULT_WAIT_MS, MAX_WAIT_MS = 1_000, 90_000, 300_000
MAX_POLICY_MS = 7 * 24 * 3600 * 1000
TTL_S = 24 * 3600.0
SYNC, PING = "sync-", "ping-"
ENDPOINT = "[A-Za-z0-9._-]{1,64}"
MAX_STREAMED = 10_000
STATUS: dict[TaskState, str] = {
    "throttled": "IN_QUEUE",
    "queued": "IN_QUEUE",
    "running": "IN_PROGRESS",
    "succeeded": "COMPLETED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
}
NO_GRAPHS = "workflow must be a bundled one's name here; a workflow of your own is for a worker's own RunPod endpoint"
NO_SERIES = "several videos a job are for a worker's own RunPod endpoint; here a task is one video, so send one a seed"
NO_LAST_FRAME = "return_last_frame is for a worker's own RunPod endpoint; here a task is one video and nothing else"
NO_S3 = "s3Config is not taken here: a large video comes as video_url, from the gateway's own store"


class Policy(BaseModel):
    """Milliseconds."""

    model_config = ConfigDict(extra="ignore")

    execution_timeout: Whole | None = Field(default=None, alias="executionTimeout", ge=5_000, le=MAX_POLICY_MS)
    ttl: Whole | None = Field(None, ge=10_000, le=MAX_POLICY_MS)
    low_priority: Flag = Field(default=False, alias="lowPriority")


class RunBody(BaseModel):
    """Extra fields are ignored, and named in a warning."""

    model_config = ConfigDict(extra="ignore")

    input: Any
    webhook: Any = None
    policy: Policy = Field(default_factory=lambda: Policy.model_validate({}))
    s3_config: Any = Field(default=None, alias="s3Config")


def parse(body: dict[str, Any], endpoint: str, sync_wait_s: float | None = None) -> Draft | None:
    """None for a ping. `sync_wait_s` is what a /runsync waits, None for a /run. Raises JobError."""
    if not re.fullmatch(ENDPOINT, endpoint):
        raise Refusal("NOT_FOUND", "endpoint not found")
    try:
        order = RunBody.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        raise body_fault(error, RunBody) from None
    if order.s3_config:
        raise JobError("INVALID_VALUE", NO_S3, "s3Config")
    raw = _unwrapped(order.input)
    webhook = Webhook(url=webhook_url(order.webhook, "webhook")) if order.webhook not in (None, "") else None
    if is_ping(raw):
        return None
    if brings_graph(raw):
        raise JobError("INVALID_VALUE", NO_GRAPHS, "workflow")
    request, warnings = parse_request(raw)
    if request.is_series:
        raise JobError("INVALID_VALUE", NO_SERIES, "num_videos" if request.seeds is None else "seeds")
    if request.return_last_frame:
        raise JobError("INVALID_VALUE", NO_LAST_FRAME, "return_last_frame")
    policy = order.policy
    ttl_s = policy.ttl / 1000 if policy.ttl else TTL_S
    retention_s = RETENTION_S
    if sync_wait_s is not None:
        retention_s = min(max(sync_wait_s, SYNC_RETENTION_S[0]), SYNC_RETENTION_S[1])
    return Draft(
        request,
        warnings=(
            *unknown_fields(body, RunBody),
            *unknown_fields(body.get("policy") or {}, Policy, "policy."),
            *warnings,
        ),
        webhook=webhook,
        retention_s=retention_s,
        deadline_s=policy.execution_timeout / 1000 if policy.execution_timeout else None,
        start_deadline_s=ttl_s,
        priority=int(policy.low_priority),
        extras={"endpoint": endpoint, "is_sync": sync_wait_s is not None},
    )


def _unwrapped(raw: Any) -> Any:
    """The Python SDK wraps an input that is falsy once more; so do people who already wrote `input` themselves."""
    return raw["input"] if isinstance(raw, dict) and set(raw) == {"input"} else raw


def carries_video(task: Task) -> bool:
    """Whether the answer has the video itself: its client does not want a link, and the platform's cap allows it."""
    answer, video = task.outcome.answer, task.outcome.video
    if answer is None or video is None or task.order.request.get("delivery") == "url":
        return False
    rest = len(json.dumps([answer.to_wire(), task.warnings])) + 1000
    return 4 * ((video.size + 2) // 3) + rest <= _cap(task)


def _cap(task: Task) -> int:
    return SYNC_CAP if task.order.extras["is_sync"] else CAP


def render(task: Task, video: str | None = None, video_url: str | None = None) -> dict[str, Any]:
    """The job's object. `video` is the file in base64, for a task that carries it; `video_url` is for any other."""
    started, finished = task.started_at_s, task.finished_at_s
    body: dict[str, Any] = {"id": job_id(task), "status": _status(task)}
    if started is not None:
        body["delayTime"] = max(0, round(1000 * (started - task.created_at_s)))  # a database may keep whole seconds
        body["workerId"] = task.executor
        if finished is not None:
            # by the executor's own clock where it said so: a database may keep whole seconds
            said_s = task.outcome.answer.timings.total_s if task.outcome.answer else None
            body["executionTime"] = round(1000 * (said_s or finished - started))
    if task.state == "running" and task.progress is not None:
        body["output"] = task.progress.to_wire()
    if task.state == "succeeded":
        body["output"] = _output(task, video, video_url)
    if task.outcome.failure is not None and body["status"] != "CANCELLED":
        body["error"] = str(task.outcome.failure)
    return body


def _output(task: Task, video: str | None, video_url: str | None) -> dict[str, Any]:
    assert task.outcome.answer is not None
    output = task.outcome.answer.to_wire() | {"warnings": list(task.warnings)}
    if video is not None:
        return {"video": video, **output}
    if video_url is None:
        output["warnings"].append("the video is kept no longer")
        return output
    if task.order.request.get("delivery") != "url":
        sentence = f"the video is too large for an answer of {_cap(task) // 1_000_000} MB, so it came as video_url"
        output["warnings"].append(sentence)
    if task.expires_at_s is not None:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(task.expires_at_s))
        output["warnings"].append(f"video_url works until {until}")
    return {"video_url": video_url, **output}


def _status(task: Task) -> str:
    failure = task.outcome.failure
    ended_otherwise = {"TIMEOUT": "TIMED_OUT", "CANCELLED": "CANCELLED"}
    return ended_otherwise.get(failure.code if failure else "", STATUS[task.state])


def job_id(task: Task) -> str:
    return (SYNC if task.order.extras["is_sync"] else "") + task.id


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    """400, 401, 404, 405, 413, 429 or 5xx, and `CODE: sentence (field)`."""
    status = failure.http_status
    return 400 if status in (409, 422) else status, {"error": str(failure)}


def wait_s(values: list[str]) -> float:
    """Seconds of `?wait=`. Raises JobError."""
    if not values:
        return DEFAULT_WAIT_MS / 1000
    if len(values) == 1 and re.fullmatch("[0-9]{1,9}", values[0]) and MIN_WAIT_MS <= int(values[0]) <= MAX_WAIT_MS:
        return int(values[0]) / 1000
    sentence = f"wait must be a whole number of milliseconds from {MIN_WAIT_MS} to {MAX_WAIT_MS}"
    raise JobError("OUT_OF_RANGE", sentence, "wait")


class Streams:
    """The steps of each job that `/stream` has not told yet: a chunk is given once."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, Progress] = OrderedDict()

    def chunks(self, task: Task) -> list[dict[str, Any]]:
        if task.is_final:
            self._told.pop(task.id, None)
            return []
        if task.progress is None or self._told.get(task.id) == task.progress:
            return []
        self._told[task.id] = task.progress
        while len(self._told) > MAX_STREAMED:
            self._told.popitem(last=False)
        return [{"output": task.progress.to_wire()}]


async def whole(task: Task, desk: Desk, base_url: str = "") -> dict[str, Any]:
    """The job's object, with its video or the link to it."""
    if carries_video(task):
        try:
            return render(task, await desk.video_base64(task))
        except Refusal as refusal:
            if refusal.code != "NOT_FOUND":
                raise
            return render(task)
    return render(task, None, desk.video_url(task, base_url))


async def webhook(task: Task, desk: Desk) -> tuple[bytes, dict[str, str]]:
    return json.dumps(await whole(task, desk)).encode(), {}


def health(desk: Desk, caller: Caller, endpoint: str) -> dict[str, Any]:
    """The caller's jobs of the endpoint, those that ended as far as the gateway remembers them; everybody's workers."""
    live = [task for task in desk.live(caller, NAME) if task.order.extras["endpoint"] == endpoint]
    ended = [task for task in desk.ended(caller, NAME) if task.order.extras["endpoint"] == endpoint]
    running = sum(task.state == "running" for task in live)
    alive, busy = desk.executors()
    return {
        "jobs": {
            "completed": sum(task.state == "succeeded" for task in ended),
            "failed": sum(task.state == "failed" for task in ended),
            "inProgress": running,
            "inQueue": len(live) - running,
            "retried": sum(task.order.attempt for task in (*live, *ended)),
        },
        "workers": {
            "idle": max(0, alive - busy),
            "initializing": 0,
            "ready": alive,
            "running": busy,
            "throttled": 0,
            "unhealthy": 0,
        },
    }


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    streams = Streams()

    async def job_of(request: Request, endpoint: str, job_id: str) -> Task:
        caller = caller_of(request, desk)
        try:
            task = await desk.get_own(job_id.removeprefix(SYNC), caller, NAME)
        except Refusal as refusal:
            if refusal.code != "NOT_FOUND":
                raise
            raise Refusal("NOT_FOUND", "job not found") from None
        if task.order.extras["endpoint"] != endpoint or task.is_removed(time.time()):
            raise Refusal("NOT_FOUND", "job not found")
        return task

    def pong(request: Request, endpoint: str, shown_id: str) -> JSONResponse:
        found = health(desk, caller_of(request, desk), endpoint)
        status = "ready" if found["workers"]["ready"] else "no worker is alive"
        body = {"id": shown_id, "status": "COMPLETED", "delayTime": 0, "executionTime": 0}
        return JSONResponse(body | {"output": {"status": status, **found}})

    async def submitted(request: Request, endpoint: str, sync_wait_s: float | None) -> Task | None:
        caller = caller_of(request, desk)
        body = await read_body(request)
        draft = parse(json_object(body), endpoint, sync_wait_s)
        return None if draft is None else await desk.submit(NAME, draft, caller, submit_of(request, body))

    def ping_id(request: Request) -> str:
        return f"{PING}{request.scope.get('wan_relay_request_id', '')}"

    @router.post("/{endpoint}/run")
    async def run(request: Request, endpoint: str) -> JSONResponse:
        task = await submitted(request, endpoint, None)
        if task is None:
            return pong(request, endpoint, ping_id(request))
        return JSONResponse({"id": job_id(task), "status": "IN_QUEUE"})

    @router.post("/{endpoint}/runsync")
    async def runsync(request: Request, endpoint: str) -> JSONResponse:
        seconds = wait_s(request.query_params.getlist("wait"))
        task = await submitted(request, endpoint, seconds)
        if task is None:
            return pong(request, endpoint, SYNC + ping_id(request))
        task = await desk.wait(task.id, caller_of(request, desk), seconds)
        if not task.is_final:
            return JSONResponse({"id": job_id(task), "status": _status(task)})
        return JSONResponse(await whole(task, desk, base_url(request)))

    @router.get("/{endpoint}/status/{job_id}")
    async def status(request: Request, endpoint: str, job_id: str) -> JSONResponse:
        if job_id.removeprefix(SYNC).startswith(PING):
            return pong(request, endpoint, job_id)
        return JSONResponse(await whole(await job_of(request, endpoint, job_id), desk, base_url(request)))

    @router.get("/{endpoint}/status-sync/{job_id}")
    async def status_sync(request: Request, endpoint: str, job_id: str) -> JSONResponse:
        """Answers when the job has ended, or after `wait`."""
        seconds = wait_s(request.query_params.getlist("wait"))
        if job_id.removeprefix(SYNC).startswith(PING):
            return pong(request, endpoint, job_id)
        task = await job_of(request, endpoint, job_id)
        task = await desk.wait(task.id, caller_of(request, desk), seconds)
        return JSONResponse(await whole(task, desk, base_url(request)))

    @router.get("/{endpoint}/stream/{job_id}")
    async def stream(request: Request, endpoint: str, job_id: str) -> JSONResponse:
        task = await job_of(request, endpoint, job_id)
        return JSONResponse({"status": _status(task), "stream": streams.chunks(task)})

    @router.post("/{endpoint}/cancel/{job_id}")
    async def cancel(request: Request, endpoint: str, job_id: str) -> JSONResponse:
        task = await job_of(request, endpoint, job_id)
        task = await desk.cancel(task.id, caller_of(request, desk))
        return JSONResponse({"id": job_id, "status": _status(task)})

    @router.post("/{endpoint}/retry/{job_id}")
    async def retry(request: Request, endpoint: str, job_id: str) -> JSONResponse:
        task = await job_of(request, endpoint, job_id)
        if _status(task) not in ("FAILED", "TIMED_OUT"):
            raise JobError("CONFLICT", "only FAILED and TIMED_OUT jobs can be retried")
        await desk.again(task, caller_of(request, desk))
        return JSONResponse({"id": job_id, "status": "IN_QUEUE"})

    @router.post("/{endpoint}/purge-queue")
    async def purge_queue(request: Request, endpoint: str) -> JSONResponse:
        caller = caller_of(request, desk)
        waiting = [
            task
            for task in desk.live(caller, NAME)
            if task.state in ("queued", "throttled") and task.order.extras["endpoint"] == endpoint
        ]
        return JSONResponse({"removed": await desk.cancel_waiting(waiting), "status": "completed"})

    @router.get("/{endpoint}/health")
    async def healthy(request: Request, endpoint: str) -> JSONResponse:
        return JSONResponse(health(desk, caller_of(request, desk), endpoint))

    return router
