"""What the SDK's worker loop talks to: it takes jobs, and brings results, progress and signs of life."""

import hmac
import time
from typing import Any

from aiohttp import web

from .jobs import Job, Jobs
from .json_http import Refusal, read_json


class SdkApi:
    def __init__(self, jobs: Jobs, worker_key: str) -> None:
        self.jobs = jobs
        self.limits = jobs.limits
        self._worker_key = worker_key

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authorize])
        app.router.add_get("/{key}/job-take/{worker}", self.job_take, allow_head=False)
        app.router.add_get("/{key}/job-take-batch/{worker}", self.job_take, allow_head=False)
        app.router.add_get("/{key}/job-stop/{worker}", self.job_stop, allow_head=False)
        app.router.add_post("/{key}/job-done/{worker}/{job}", self.job_done)
        app.router.add_post("/{key}/job-stream/{worker}/{job}", self.job_stream)
        app.router.add_get("/{key}/ping/{worker}", self.ping, allow_head=False)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """The key is part of the path: the SDK takes the Authorization header from the developer's own settings."""
        sent = request.match_info.get("key", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, self._worker_key.encode()):
            raise Refusal(404, "not found")
        response: web.StreamResponse = await handler(request)
        return response

    async def job_take(self, request: web.Request) -> web.Response:
        self.jobs.last_ping = time.monotonic()
        job = await self.jobs.take(request.match_info["worker"], lambda: is_listening(request))
        if job is None:
            return web.Response(status=204)
        taken = {"id": job.id, "input": job.input, "webhook": job.webhook, "s3Config": job.s3_config}
        taken = {name: value for name, value in taken.items() if value is not None or name == "input"}
        return web.json_response([taken] if "job-take-batch" in request.path else taken)

    async def job_stop(self, request: web.Request) -> web.Response:
        ids = await self.jobs.take_stops()
        return web.Response(status=204) if ids is None else web.json_response({"jobsToStop": ids})

    async def job_done(self, request: web.Request) -> web.Response:
        job = self._job(request)
        try:
            body = await self._object(request, self.limits.runsync_payload if job.is_sync else self.limits.run_payload)
        except Refusal:
            # The SDK does not try again, and the platform counts the job as done: the result is lost.
            if job.status == "IN_PROGRESS" and is_listening(request):
                job.output = None
                await self.jobs.end(job, "COMPLETED")
            raise
        if body.get("stopPod"):
            self.jobs.wants_fresh_worker.set()
        if job.status != "IN_PROGRESS":
            return web.Response(status=200)
        job.output = body.get("output")
        if body.get("status") == "IN_PROGRESS":
            return web.Response(status=200)
        failure = body.get("error")
        if isinstance(failure, str) and failure:
            job.error = failure
            await self.jobs.end(job, "FAILED")
        else:
            await self.jobs.end(job, "COMPLETED")
        return web.Response(status=200)

    async def job_stream(self, request: web.Request) -> web.Response:
        job = self._job(request)
        body = await self._object(request, self.limits.stream_chunk)
        job.chunks.append(body.get("output"))
        return web.Response(status=200)

    async def _object(self, request: web.Request, limit: int) -> dict[str, Any]:
        body = await read_json(request, limit)
        if not isinstance(body, dict):
            raise Refusal(400, "the body must be a JSON object")
        return body

    async def ping(self, request: web.Request) -> web.Response:
        self.jobs.last_ping = time.monotonic()
        return web.Response(status=200)

    def _job(self, request: web.Request) -> Job:
        job = self.jobs.by_id.get(request.match_info["job"])
        if job is None:
            raise Refusal(404, "job not found")
        return job


def is_listening(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()
