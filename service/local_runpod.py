"""A local RunPod: the real SDK loop in a worker process, and the real HTTP API in front of it.

    python -m service.local_runpod [--host 127.0.0.1] [--port 8000] [--api-key KEY]

prints `ready http://127.0.0.1:8000/v2/local`. The worker is configured by its usual environment variables;
COMFYUI_PATH is needed, and WAN_RELAY_MODELS (else WAN_RELAY_TOY_MODELS) names the models folder. Limits,
retention and odd corners are those that were measured on the platform: a result over the limit leaves a
COMPLETED job without output, and an error that is not a string counts as success.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from .worker.comfyui.process import DIE_WITH_PARENT, pack_folder

ROOT = Path(__file__).resolve().parents[1]
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The platform's numbers, so that a test can shorten the long ones."""

    run_payload: int = 10 * MB
    runsync_payload: int = 20 * MB
    stream_chunk: int = MB
    run_retention_s: float = 30 * 60
    runsync_retention_s: float = 60
    default_wait_ms: int = 90_000
    min_wait_ms: int = 1_000
    max_wait_ms: int = 300_000
    execution_timeout_ms: int = 600_000
    min_execution_timeout_ms: int = 5_000
    ttl_ms: int = 24 * 3600 * 1000
    min_ttl_ms: int = 10_000
    max_policy_ms: int = 7 * 24 * 3600 * 1000
    rates: tuple[int, int] = (1000, 2000)
    rate_window_s: float = 10
    long_poll_s: float = 20
    webhook_pause_s: float = 10


@dataclass
class Job:
    id: str
    input: Any
    created: float
    execution_timeout_s: float
    ttl_s: float
    webhook: str | None = None
    s3_config: Any = None
    status: str = "IN_QUEUE"
    started: float | None = None
    ended: float | None = None
    worker_id: str | None = None
    output: Any = None
    error: str | None = None
    chunks: list[Any] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_sync(self) -> bool:
        return self.id.startswith("sync-")

    def as_json(self) -> dict[str, Any]:
        milliseconds = {
            "delayTime": None if self.started is None else round((self.started - self.created) * 1000),
            "executionTime": None
            if self.started is None or self.ended is None
            else round((self.ended - self.started) * 1000),
        }
        body = {"id": self.id, "status": self.status, **milliseconds, "workerId": self.worker_id}
        body |= {"output": self.output, "error": self.error}
        return {name: value for name, value in body.items() if value is not None}


class Endpoint:
    """Jobs and their states; both the clients' API and the worker's API work on it."""

    def __init__(self, limits: Limits, endpoint_id: str = "local", api_key: str | None = None) -> None:
        self.limits = limits
        self.id = endpoint_id
        self.api_key = api_key
        self.sdk_path = f"/sdk/{secrets.token_urlsafe(24)}"  # known to the worker alone: jobs carry images and keys
        self.jobs: dict[str, Job] = {}
        self.queue: collections.deque[Job] = collections.deque()
        self.stops: collections.deque[str] = collections.deque()
        self.queued = asyncio.Condition()
        self.stopped = asyncio.Condition()
        self.counts = collections.Counter({"completed": 0, "failed": 0, "retried": 0})
        self.last_ping: float | None = None
        self.wants_fresh_worker = asyncio.Event()
        self.is_closing = False
        self._calls: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)
        self._webhooks: set[asyncio.Task[None]] = set()

    # --- the clients' API ---

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * MB, middlewares=[self._authorize])
        prefix = "/v2/{endpoint}"
        app.router.add_post(f"{prefix}/run", self.run)
        app.router.add_post(f"{prefix}/runsync", self.runsync)
        app.router.add_get(f"{prefix}/status/{{job}}", self.status)
        app.router.add_get(f"{prefix}/stream/{{job}}", self.stream)
        app.router.add_post(f"{prefix}/cancel/{{job}}", self.cancel)
        app.router.add_post(f"{prefix}/retry/{{job}}", self.retry)
        app.router.add_post(f"{prefix}/purge-queue", self.purge_queue)
        app.router.add_get(f"{prefix}/health", self.health)
        app.router.add_get(f"{self.sdk_path}/job-take/{{worker}}", self.job_take)
        app.router.add_get(f"{self.sdk_path}/job-take-batch/{{worker}}", self.job_take)
        app.router.add_get(f"{self.sdk_path}/job-stop/{{worker}}", self.job_stop)
        app.router.add_post(f"{self.sdk_path}/job-done/{{worker}}/{{job}}", self.job_done)
        app.router.add_post(f"{self.sdk_path}/job-stream/{{worker}}/{{job}}", self.job_stream)
        app.router.add_get(f"{self.sdk_path}/ping/{{worker}}", self.ping)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/v2/"):
            if self.api_key and request.headers.get("Authorization", "").removeprefix("Bearer ") != self.api_key:
                return _error(401, "unauthorized")
            if request.match_info.get("endpoint") not in (None, self.id):
                return _error(404, "endpoint not found")
        response: web.StreamResponse = await handler(request)
        return response

    async def run(self, request: web.Request) -> web.Response:
        job = await self._submitted(request, "", self.limits.run_payload, self.limits.rates[0])
        return _json({"id": job.id, "status": job.status})

    async def runsync(self, request: web.Request) -> web.Response:
        wait_ms = _whole(request.query.get("wait", str(self.limits.default_wait_ms)))
        if wait_ms is None or not self.limits.min_wait_ms <= wait_ms <= self.limits.max_wait_ms:
            return _error(400, f"wait must be from {self.limits.min_wait_ms} to {self.limits.max_wait_ms}")
        job = await self._submitted(request, "sync-", self.limits.runsync_payload, self.limits.rates[1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_ms / 1000):
                while job.status not in FINAL:
                    await job.changed.wait()
                    job.changed.clear()
        return _json(job.as_json() if job.status in FINAL else {"id": job.id, "status": job.status})

    async def _submitted(self, request: web.Request, prefix: str, limit: int, rate: int) -> Job:
        self._check_rate(request.path, rate)
        content = await request.read()
        if len(content) > limit:
            raise web.HTTPBadRequest(**_error_body(f"payload is larger than {limit // MB} MB"))
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if not isinstance(body, dict) or "input" not in body:
            raise web.HTTPBadRequest(**_error_body("the body must be a JSON object with an input"))
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
        self.jobs[job.id] = job
        await self._enqueue(job, front=False)
        return job

    def _check_rate(self, path: str, rate: int) -> None:
        calls, now = self._calls[path], time.monotonic()
        while calls and calls[0] < now - self.limits.rate_window_s:
            calls.popleft()
        if len(calls) >= rate:
            raise web.HTTPTooManyRequests(**_error_body("too many requests"))
        calls.append(now)

    def _policy(self, policy: Any, name: str, default: int, least: int) -> float:
        value = policy.get(name, default) if isinstance(policy, dict) else None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= self.limits.max_policy_ms:
            raise web.HTTPBadRequest(
                **_error_body(f"policy.{name} must be from {least} to {self.limits.max_policy_ms}")
            )
        return value / 1000

    async def _enqueue(self, job: Job, front: bool) -> None:
        async with self.queued:
            self.queue.appendleft(job) if front else self.queue.append(job)
            self.queued.notify_all()

    async def status(self, request: web.Request) -> web.Response:
        return _json(self._job(request).as_json())

    async def stream(self, request: web.Request) -> web.Response:
        job = self._job(request)
        chunks, job.chunks = job.chunks, []
        return _json({"status": job.status, "stream": [{"output": chunk} for chunk in chunks]})

    async def cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.status not in FINAL:
            await self._end(job, "CANCELLED")
        return _json({"id": job.id, "status": job.status})

    async def retry(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.status not in ("FAILED", "TIMED_OUT"):
            return _error(400, "only FAILED and TIMED_OUT jobs can be retried")
        job.status, job.output, job.error, job.started, job.ended = "IN_QUEUE", None, None, None, None
        job.created = time.monotonic()
        self.counts["retried"] += 1
        await self._enqueue(job, front=False)
        return _json({"id": job.id, "status": job.status})

    async def purge_queue(self, request: web.Request) -> web.Response:
        jobs = list(self.queue)
        for job in jobs:
            await self._end(job, "CANCELLED")
        return _json({"removed": len(jobs), "status": "completed"})

    async def health(self, request: web.Request) -> web.Response:
        running = sum(job.status == "IN_PROGRESS" for job in self.jobs.values())
        alive = self.last_ping is not None
        jobs = {
            "completed": self.counts["completed"],
            "failed": self.counts["failed"],
            "inProgress": running,
            "inQueue": len(self.queue),
            "retried": self.counts["retried"],
        }
        workers = {
            "idle": int(alive and not running),
            "initializing": int(not alive),
            "ready": int(alive),
            "running": int(alive and running > 0),
            "throttled": 0,
            "unhealthy": 0,
        }
        return _json({"jobs": jobs, "workers": workers})

    def _job(self, request: web.Request) -> Job:
        job = self.jobs.get(request.match_info["job"])
        if job is None:
            raise web.HTTPNotFound(**_error_body("job not found"))
        return job

    # --- the SDK's API ---

    async def job_take(self, request: web.Request) -> web.Response:
        self.last_ping = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.long_poll_s), self.queued:
                await self.queued.wait_for(lambda: len(self.queue) > 0 or self.is_closing)
                if self.is_closing or request.transport is None or request.transport.is_closing():
                    return web.Response(status=204)
                job = self.queue.popleft()
                job.status, job.started = "IN_PROGRESS", time.monotonic()
                job.worker_id = request.match_info["worker"]
                taken = {"id": job.id, "input": job.input, "webhook": job.webhook, "s3Config": job.s3_config}
                taken = {name: value for name, value in taken.items() if value is not None or name == "input"}
                return _json([taken] if "job-take-batch" in request.path else taken)
        return web.Response(status=204)

    async def job_stop(self, request: web.Request) -> web.Response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.long_poll_s), self.stopped:
                await self.stopped.wait_for(lambda: len(self.stops) > 0 or self.is_closing)
                ids = list(self.stops)
                self.stops.clear()
                return _json({"jobsToStop": ids})
        return web.Response(status=204)

    async def job_done(self, request: web.Request) -> web.Response:
        job = self._job(request)
        content = await request.read()
        if len(content) > (self.limits.runsync_payload if job.is_sync else self.limits.run_payload):
            # The SDK does not try again, and the platform counts the job as done: the result is lost.
            if job.status == "IN_PROGRESS":
                job.output = None
                await self._end(job, "COMPLETED")
            return _error(400, "result is too large")
        body = json.loads(content)
        if body.get("stopPod"):
            self.wants_fresh_worker.set()
        if job.status != "IN_PROGRESS":
            return web.Response(status=200)
        if body.get("status") == "IN_PROGRESS":
            job.output = body.get("output")
            return web.Response(status=200)
        error = body.get("error")
        job.output = body.get("output")
        if isinstance(error, str) and error:
            job.error = error
            await self._end(job, "FAILED")
        else:
            await self._end(job, "COMPLETED")
        return web.Response(status=200)

    async def job_stream(self, request: web.Request) -> web.Response:
        job = self._job(request)
        content = await request.read()
        if len(content) > self.limits.stream_chunk:
            return _error(400, "chunk is too large")
        job.chunks.append(json.loads(content).get("output"))
        return web.Response(status=200)

    async def ping(self, request: web.Request) -> web.Response:
        self.last_ping = time.monotonic()
        return web.Response(status=200)

    # --- states ---

    async def _end(self, job: Job, status: str) -> None:
        was = job.status
        job.status, job.ended = status, time.monotonic()
        if status in ("CANCELLED", "TIMED_OUT"):
            job.output = None
        if job in self.queue:
            self.queue.remove(job)
        if was == "IN_PROGRESS" and status in ("CANCELLED", "TIMED_OUT"):
            await self._stop(job)
        self.counts["completed" if status == "COMPLETED" else "failed"] += status != "CANCELLED"
        job.changed.set()
        if job.webhook:
            task = asyncio.create_task(self._call_webhook(job))
            self._webhooks.add(task)
            task.add_done_callback(self._webhooks.discard)

    async def _stop(self, job: Job) -> None:
        async with self.stopped:
            self.stops.append(job.id)
            self.stopped.notify_all()

    async def _call_webhook(self, job: Job) -> None:
        for attempt in range(3):
            if attempt:
                await asyncio.sleep(self.limits.webhook_pause_s)
            with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                    session.post(str(job.webhook), json=job.as_json()) as response,
                ):
                    if response.status == 200:
                        return

    async def close(self) -> None:
        """Lets go of waiting workers, so that the SDK can end gracefully."""
        self.is_closing = True
        for condition in (self.queued, self.stopped):
            async with condition:
                condition.notify_all()

    async def keep_time(self) -> None:
        """Ends what runs too long, and forgets what is too old."""
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for job in list(self.jobs.values()):
                if job.started and job.status == "IN_PROGRESS" and now - job.started > job.execution_timeout_s:
                    job.error = "job timed out after exceeding its execution timeout"
                    await self._end(job, "TIMED_OUT")
                elif job.status not in FINAL and now - job.created > job.ttl_s:
                    await self._end(job, "CANCELLED")
                    del self.jobs[job.id]
                elif job.ended and now - job.ended > self._retention_s(job):
                    del self.jobs[job.id]

    def _retention_s(self, job: Job) -> float:
        return self.limits.runsync_retention_s if job.is_sync else self.limits.run_retention_s


class WorkerProcess:
    """One worker: the handler's module under the real SDK loop."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-S", "-E", "-c", DIE_WITH_PARENT, str(os.getpid())]
        command += [sys.executable, "-m", "service.worker.handler"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, cwd=ROOT, env=self._environment, start_new_session=True
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, grace_s: float = 5.0) -> None:
        if self._process is None:
            return
        for sign, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
                return

    async def supervise(self, endpoint: Endpoint) -> None:
        """Starts the worker again when it ended, or asked to be replaced."""
        while True:
            self.start()
            fresh = asyncio.create_task(endpoint.wants_fresh_worker.wait())
            while self.is_running and not fresh.done():
                await asyncio.wait([fresh], timeout=0.2)
            fresh.cancel()
            endpoint.wants_fresh_worker.clear()
            endpoint.last_ping = None
            await asyncio.to_thread(self.stop, 1.0)
            await asyncio.sleep(0.5)


def worker_environment(sdk_url: str, folder: Path) -> dict[str, str]:
    """The worker's variables: the platform's own, and those of a development machine where none is set."""
    pack = pack_folder(folder / "base")
    pack.parent.mkdir(parents=True)
    pack.symlink_to(ROOT)
    own = {
        "RUNPOD_POD_ID": "local-worker",
        "RUNPOD_AI_API_KEY": "local",
        "RUNPOD_WEBHOOK_GET_JOB": f"{sdk_url}/job-take/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{sdk_url}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{sdk_url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_PING": f"{sdk_url}/ping/$RUNPOD_POD_ID",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    defaults = {
        "COMFYUI_PYTHON": sys.executable,
        "COMFYUI_PORT": "0",
        "COMFYUI_BASE": str(folder / "base"),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_VOLUME": str(folder / "volume"),
        "WAN_RELAY_PROMPT_CACHE": str(folder / "prompts"),
        "PYTHONUNBUFFERED": "1",
    }
    toy = {}
    if "WAN_RELAY_TOY_MODELS" in os.environ:
        toy = {"WAN_RELAY_MODELS": os.environ["WAN_RELAY_TOY_MODELS"], "COMFYUI_ARGS": "--cpu"}
    return defaults | toy | dict(os.environ) | own


async def serve(host: str, port: int, api_key: str | None, limits: Limits) -> None:
    """Runs until SIGTERM or SIGINT; leaves no process and no file."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    folder = Path(tempfile.mkdtemp(prefix="wan_relay_platform_"))
    endpoint = Endpoint(limits, api_key=api_key)
    runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=1.0)
    worker: WorkerProcess | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        base = own_url(*runner.addresses[0][:2])
        worker = WorkerProcess(worker_environment(base + endpoint.sdk_path, folder))
        tasks = [asyncio.create_task(endpoint.keep_time()), asyncio.create_task(worker.supervise(endpoint))]
        print(f"ready {base}/v2/{endpoint.id}", flush=True)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await endpoint.close()
        if worker is not None:
            await asyncio.to_thread(worker.stop)
        await runner.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _json(body: Any) -> web.Response:
    return web.json_response(body)


def _error(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


def _error_body(sentence: str) -> dict[str, Any]:
    return {"text": json.dumps({"error": sentence}), "content_type": "application/json"}


def own_url(host: str, port: int) -> str:
    """How this machine reaches the address that was bound."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="service.local_runpod", description="A local RunPod endpoint.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; then set a key")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free port")
    parser.add_argument("--api-key", help="the bearer key that clients must send; without it any is taken")
    options = parser.parse_args(arguments)
    if "COMFYUI_PATH" not in os.environ:
        parser.error("COMFYUI_PATH must name ComfyUI's folder")
    asyncio.run(serve(options.host, options.port, options.api_key, Limits()))


if __name__ == "__main__":
    main()
