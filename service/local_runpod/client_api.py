"""What api.runpod.ai serves to clients, under /v2/<endpoint>."""

import collections
import hmac
import json
import time
import uuid
from typing import Any

from aiohttp import web

from .jobs import FINAL, MB, Job, Jobs
from .json_http import answer, error, error_body


class ClientApi:
    def __init__(self, jobs: Jobs, endpoint_id: str, api_key: str) -> None:
        self.jobs = jobs
        self.limits = jobs.limits
        self.endpoint_id = endpoint_id
        self.api_key = api_key
        self._calls: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * MB, middlewares=[self._authorize])
        app.router.add_post("/{endpoint}/run", self.run)
        app.router.add_post("/{endpoint}/runsync", self.runsync)
        app.router.add_get("/{endpoint}/status/{job}", self.status)
        app.router.add_get("/{endpoint}/stream/{job}", self.stream)
        app.router.add_post("/{endpoint}/cancel/{job}", self.cancel)
        app.router.add_post("/{endpoint}/retry/{job}", self.retry)
        app.router.add_post("/{endpoint}/purge-queue", self.purge_queue)
        app.router.add_get("/{endpoint}/health", self.health)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.api_key and not carries_key(request, self.api_key):
            return error(401, "unauthorized")
        if request.match_info.get("endpoint") not in (None, self.endpoint_id):
            return error(404, "endpoint not found")
        response: web.StreamResponse = await handler(request)
        return response

    async def run(self, request: web.Request) -> web.Response:
        job = await self._submitted(request, "", self.limits.run_payload, self.limits.rates[0])
        return answer({"id": job.id, "status": job.status})

    async def runsync(self, request: web.Request) -> web.Response:
        wait_ms = _whole(request.query.get("wait", str(self.limits.default_wait_ms)))
        if wait_ms is None or not self.limits.min_wait_ms <= wait_ms <= self.limits.max_wait_ms:
            return error(400, f"wait must be from {self.limits.min_wait_ms} to {self.limits.max_wait_ms}")
        job = await self._submitted(request, "sync-", self.limits.runsync_payload, self.limits.rates[1])
        await self.jobs.wait_final(job, wait_ms / 1000)
        return answer(job.as_json() if job.status in FINAL else {"id": job.id, "status": job.status})

    async def _submitted(self, request: web.Request, prefix: str, limit: int, rate: int) -> Job:
        self._check_rate(request.path, rate)
        content = await request.read()
        if len(content) > limit:
            raise web.HTTPBadRequest(**error_body(f"payload is larger than {limit // MB} MB"))
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if not isinstance(body, dict) or "input" not in body:
            raise web.HTTPBadRequest(**error_body("the body must be a JSON object with an input"))
        policy = body.get("policy") or {}
        timeouts = [
            self._policy(
                policy, "executionTimeout", self.limits.execution_timeout_ms, self.limits.min_execution_timeout_ms
            ),
            self._policy(policy, "ttl", self.limits.ttl_ms, self.limits.min_ttl_ms),
        ]
        job = Job(
            id=f"{prefix}{uuid.uuid4()}-u1",
            input=body["input"],
            created=time.monotonic(),
            execution_timeout_s=timeouts[0],
            ttl_s=timeouts[1],
            webhook=body.get("webhook"),
            s3_config=body.get("s3Config"),
        )
        await self.jobs.submit(job)
        return job

    def _check_rate(self, path: str, rate: int) -> None:
        calls, now = self._calls[path], time.monotonic()
        while calls and calls[0] < now - self.limits.rate_window_s:
            calls.popleft()
        if len(calls) >= rate:
            raise web.HTTPTooManyRequests(**error_body("too many requests"))
        calls.append(now)

    def _policy(self, policy: Any, name: str, default: int, least: int) -> float:
        value = policy.get(name, default) if isinstance(policy, dict) else None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= self.limits.max_policy_ms:
            raise web.HTTPBadRequest(**error_body(f"policy.{name} must be from {least} to {self.limits.max_policy_ms}"))
        return value / 1000

    async def status(self, request: web.Request) -> web.Response:
        return answer(self._job(request).as_json())

    async def stream(self, request: web.Request) -> web.Response:
        job = self._job(request)
        chunks, job.chunks = job.chunks, []
        return answer({"status": job.status, "stream": [{"output": chunk} for chunk in chunks]})

    async def cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.status not in FINAL:
            await self.jobs.end(job, "CANCELLED")
        return answer({"id": job.id, "status": job.status})

    async def retry(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.status not in ("FAILED", "TIMED_OUT"):
            return error(400, "only FAILED and TIMED_OUT jobs can be retried")
        await self.jobs.retry(job)
        return answer({"id": job.id, "status": job.status})

    async def purge_queue(self, request: web.Request) -> web.Response:
        jobs = list(self.jobs.queue)
        for job in jobs:
            await self.jobs.end(job, "CANCELLED")
        return answer({"removed": len(jobs), "status": "completed"})

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
        return answer({"jobs": jobs, "workers": workers})

    def _job(self, request: web.Request) -> Job:
        job = self.jobs.by_id.get(request.match_info["job"])
        if job is None:
            raise web.HTTPNotFound(**error_body("job not found"))
        return job


def carries_key(request: web.Request, key: str) -> bool:
    """Whether `Authorization: Bearer KEY`, or the bare key, came. Letters beyond ASCII may come as UTF-8 or Latin-1."""
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "surrogateescape")
    expected = key.encode("utf-8", "surrogateescape")
    return any(hmac.compare_digest(reading, expected) for reading in (sent, sent.decode("latin-1").encode()))


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None
