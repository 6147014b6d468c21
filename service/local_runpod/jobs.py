"""Jobs, their states and their queue: what the clients' side and the worker's side have between them."""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
    lost_workers: int = 3  # of one job; the platform is only known to start it again


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
    lost_workers: int = 0
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


class Jobs:
    """Every job that is remembered, the queue, and what is known of the one worker; `on_end` hears of each end."""

    def __init__(self, limits: Limits, on_end: Callable[[Job], None] = lambda job: None) -> None:
        self.limits = limits
        self.by_id: dict[str, Job] = {}
        self.queue: collections.deque[Job] = collections.deque()
        self.counts = collections.Counter({"completed": 0, "failed": 0, "retried": 0})
        self.last_ping: float | None = None
        self.wants_fresh_worker = asyncio.Event()
        self.is_closing = False
        self._on_end = on_end
        self._stops: collections.deque[str] = collections.deque()
        self._queued = asyncio.Condition()
        self._stopped = asyncio.Condition()

    async def submit(self, job: Job) -> None:
        self.by_id[job.id] = job
        await self._enqueue(job)

    async def _enqueue(self, job: Job, is_first: bool = False) -> None:
        job.status, job.output, job.error, job.started, job.ended = "IN_QUEUE", None, None, None, None
        job.worker_id = None
        async with self._queued:
            self.queue.appendleft(job) if is_first else self.queue.append(job)
            self._queued.notify_all()

    async def wait_final(self, job: Job, wait_s: float) -> None:
        """Returns when the job has ended, after `wait_s` seconds, or when the platform closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while job.status not in FINAL and not self.is_closing:
                    await job.changed.wait()
                    job.changed.clear()

    async def take(self, worker_id: str, is_listening: Callable[[], bool]) -> Job | None:
        """The next job, now IN_PROGRESS; None after the long poll's time, or when its caller is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.long_poll_s), self._queued:
                await self._queued.wait_for(lambda: len(self.queue) > 0 or self.is_closing)
                if self.is_closing or not is_listening():
                    return None
                job = self.queue.popleft()
                job.status, job.started = "IN_PROGRESS", time.monotonic()
                job.worker_id = worker_id
                return job
        return None

    async def take_stops(self) -> list[str] | None:
        """Ids of the jobs that the worker must stop; None after the long poll's time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.long_poll_s), self._stopped:
                await self._stopped.wait_for(lambda: len(self._stops) > 0 or self.is_closing)
                ids = list(self._stops)
                self._stops.clear()
                return ids
        return None

    async def end(self, job: Job, status: str) -> None:
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
        self._on_end(job)

    async def _stop(self, job: Job) -> None:
        async with self._stopped:
            self._stops.append(job.id)
            self._stopped.notify_all()

    async def retry(self, job: Job) -> None:
        job.created, job.lost_workers = time.monotonic(), 0
        self.counts["retried"] += 1
        await self._enqueue(job)

    async def worker_gone(self) -> None:
        """The worker has ended, in whatever way: a job that it had is the next one's first, but for one that ends
        worker after worker.
        """
        self.last_ping = None
        self._stops.clear()
        for job in reversed(list(self.by_id.values())):
            if job.status != "IN_PROGRESS":
                continue
            job.lost_workers += 1
            if job.lost_workers < self.limits.lost_workers:
                self.counts["retried"] += 1
                await self._enqueue(job, is_first=True)
            else:
                job.error = f"the worker ended {job.lost_workers} times in the middle of this job"
                await self.end(job, "FAILED")

    async def close(self) -> None:
        """Lets go of all who wait, so that clients hear of it, and the SDK can end gracefully."""
        self.is_closing = True
        for job in self.by_id.values():
            job.changed.set()
        for condition in (self._queued, self._stopped):
            async with condition:
                condition.notify_all()

    async def keep_time(self) -> None:
        """Ends what runs too long, and forgets what is too old."""
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for job in list(self.by_id.values()):
                if job.started and job.status == "IN_PROGRESS" and now - job.started > job.execution_timeout_s:
                    job.error = "job timed out after exceeding its execution timeout"
                    await self.end(job, "TIMED_OUT")
                elif job.status not in FINAL and now - job.created > job.ttl_s:
                    await self.end(job, "CANCELLED")
                    del self.by_id[job.id]
                elif job.ended and now - job.ended > self._retention_s(job):
                    del self.by_id[job.id]

    def _retention_s(self, job: Job) -> float:
        return self.limits.runsync_retention_s if job.is_sync else self.limits.run_retention_s
