"""What api.runpod.ai serves to clients, under /v2/<endpoint>."""

import collections
import re
import time
import uuid
from typing import Any

from aiohttp import web

from ..media.guarded_http import BadUrl, dialled_url
from .callers import carries_key, is_from_own_program
from .jobs import FINAL, Job, Jobs
from .json_http import Refusal, read_json

MAX_WEBHOOK = 8000


class ClientApi:
    def __init__(self, jobs: Jobs, endpoint_id: str, api_key: str) -> None:
        self.jobs = jobs
        self.limits = jobs.limits
        self.endpoint_id = endpoint_id
        self.api_key = api_key
        self._calls: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authorize])
        app.router.add_post("/{endpoint}/run", self.run)
        app.router.add_post("/{endpoint}/runsync", self.runsync)
        app.router.add_get("/{endpoint}/status/{job}", self.status, allow_head=False)
        app.router.add_get("/{endpoint}/stream/{job}", self.stream, allow_head=False)
        app.router.add_post("/{endpoint}/cancel/{job}", self.cancel)
        app.router.add_post("/{endpoint}/retry/{job}", self.retry)
        app.router.add_post("/{endpoint}/purge-queue", self.purge_queue)
        app.router.add_get("/{endpoint}/health", self.health, allow_head=False)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not self.api_key and not is_from_own_program(request):
            raise Refusal(403, "without --api-key only calls to and from this machine's own names are answered")
        if self.api_key and not carries_key(request, self.api_key):
            raise Refusal(401, "unauthorized")
        if request.match_info.get("endpoint") not in (None, self.endpoint_id):
            raise Refusal(404, "endpoint not found")
        response: web.StreamResponse = await handler(request)
        return response

    async def run(self, request: web.Request) -> web.Response:
        job = await self._submitted(request, "", self.limits.run_payload, self.limits.rates[0])
        return web.json_response({"id": job.id, "status": job.status})

    async def runsync(self, request: web.Request) -> web.Response:
        wait_ms = self._wait_ms(request.query.getall("wait", [str(self.limits.default_wait_ms)]))
        job = await self._submitted(request, "sync-", self.limits.runsync_payload, self.limits.rates[1])
        await self.jobs.wait_final(job, wait_ms / 1000)
        if job.status in FINAL:
            return web.json_response(job.as_json())
        self._check_open()
        return web.json_response({"id": job.id, "status": job.status})

    def _wait_ms(self, values: list[str]) -> int:
        least, most = self.limits.min_wait_ms, self.limits.max_wait_ms
        if len(values) == 1 and re.fullmatch("[0-9]{1,9}", values[0]) and least <= int(values[0]) <= most:
            return int(values[0])
        raise Refusal(400, f"wait must be from {least} to {most}")

    async def _submitted(self, request: web.Request, prefix: str, limit: int, rate: int) -> Job:
        self._check_rate(request.path, rate)
        body = await read_json(request, limit)
        if not isinstance(body, dict) or "input" not in body:
            raise Refusal(400, "the body must be a JSON object with an input")
        self._check_open()
        policy, own = _object_or_null(body, "policy") or {}, self.limits
        timeout_s = self._policy_s(policy, "executionTimeout", own.execution_timeout_ms, own.min_execution_timeout_ms)
        job = Job(
            id=f"{prefix}{uuid.uuid4()}-u1",
            input=body["input"],
            created=time.monotonic(),
            execution_timeout_s=timeout_s,
            ttl_s=self._policy_s(policy, "ttl", own.ttl_ms, own.min_ttl_ms),
            webhook=_webhook(body),
            s3_config=_object_or_null(body, "s3Config"),
        )
        await self.jobs.submit(job)
        return job

    def _check_open(self) -> None:
        if self.jobs.is_closing:
            raise Refusal(503, "the platform is shutting down")

    def _check_rate(self, path: str, rate: int) -> None:
        calls, now = self._calls[path], time.monotonic()
        while calls and calls[0] < now - self.limits.rate_window_s:
            calls.popleft()
        if len(calls) >= rate:
            raise Refusal(429, "too many requests")
        calls.append(now)

    def _policy_s(self, policy: dict[str, Any], name: str, default_ms: int, least_ms: int) -> float:
        value, most_ms = policy.get(name), self.limits.max_policy_ms
        if value is None:
            return default_ms / 1000
        if type(value) is not int or not least_ms <= value <= most_ms:
            sentence = f"policy.{name} must be a whole number of milliseconds from {least_ms} to {most_ms}"
            raise Refusal(400, sentence)
        return value / 1000

    async def status(self, request: web.Request) -> web.Response:
        return web.json_response(self._job(request).as_json())

    async def stream(self, request: web.Request) -> web.Response:
        job = self._job(request)
        chunks, job.chunks = job.chunks, []
        return web.json_response({"status": job.status, "stream": [{"output": chunk} for chunk in chunks]})

    async def cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.status not in FINAL:
            await self.jobs.end(job, "CANCELLED")
        return web.json_response({"id": job.id, "status": job.status})

    async def retry(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.status not in ("FAILED", "TIMED_OUT"):
            raise Refusal(400, "only FAILED and TIMED_OUT jobs can be retried")
        await self.jobs.retry(job)
        return web.json_response({"id": job.id, "status": job.status})

    async def purge_queue(self, request: web.Request) -> web.Response:
        jobs = list(self.jobs.queue)
        for job in jobs:
            await self.jobs.end(job, "CANCELLED")
        return web.json_response({"removed": len(jobs), "status": "completed"})

    async def health(self, request: web.Request) -> web.Response:
        running = sum(job.status == "IN_PROGRESS" for job in self.jobs.by_id.values())
        alive = self.jobs.last_ping is not None
        jobs = {
            "completed": self.jobs.counts["completed"],
            "failed": self.jobs.counts["failed"],
            "inProgress": running,
            "inQueue": len(self.jobs.queue),
            "retried": self.jobs.counts["retried"],
        }
        workers = {
            "idle": int(alive and not running),
            "initializing": int(not alive),
            "ready": int(alive),
            "running": int(alive and running > 0),
            "throttled": 0,
            "unhealthy": 0,
        }
        return web.json_response({"jobs": jobs, "workers": workers})

    def _job(self, request: web.Request) -> Job:
        job = self.jobs.by_id.get(request.match_info["job"])
        if job is None:
            raise Refusal(404, "job not found")
        return job


def _webhook(body: dict[str, Any]) -> str | None:
    value = body.get("webhook")
    if value is None or value == "":
        return None
    refusal = Refusal(400, f"webhook must be an http or https URL of at most {MAX_WEBHOOK} characters")
    if not isinstance(value, str) or len(value) > MAX_WEBHOOK:
        raise refusal
    try:
        dialled_url(value)
    except BadUrl:
        raise refusal from None
    return value


def _object_or_null(body: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise Refusal(400, f"{name} must be an object")
    return value
