"""One request on its way through the worker, for the caller who waits for it over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ...contract.progress import AFTER_SAMPLING, Progress, Stage
from ...contract.video_answer import SeriesVideo
from ..job import Answer, Call, Worker

BEAT_S = 10.0
UNKNOWN_S = 10.0


class LiveProgress:
    """A Follower that keeps what it hears, until it is read."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[Progress | None] = asyncio.Queue()
        self.share = 0.0
        self._series: tuple[int, int, Sequence[SeriesVideo]] | None = None
        self._steps = 0

    def stage(self, stage: Stage) -> None:
        self._tell(Progress.of_stage(stage, self._steps if stage in AFTER_SAMPLING else 0))

    def step(
        self, step: int, steps: int, switch_step: int | None, opening_steps: int = 0, node: str | None = None
    ) -> None:
        self._steps = steps
        self._tell(Progress.of_step(step, steps, switch_step, opening_steps, node))

    def video(self, number: int, count: int, made: Sequence[SeriesVideo]) -> None:
        self._series = (number, count, made)
        if made:
            self._tell(Progress.of_stage("loading", 0))

    def _tell(self, progress: Progress) -> None:
        progress = progress.of_several(*self._series) if self._series else progress
        self.share = progress.progress
        self.news.put_nowait(progress)


class LiveRun:
    """Begins at once; `give_up` when its caller is gone. Use it within one event loop."""

    def __init__(self, worker: Worker, given: Any, job_id: str, budget: int, s3_config: Any) -> None:
        self.id = job_id
        self._progress = LiveProgress()
        self._began = time.monotonic()
        self._deadline_s = worker.settings.job_timeout_s
        self.task = asyncio.create_task(worker.output(given, Call(job_id, budget, self._progress, s3_config)))
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._progress.news.put_nowait(None)
        if not task.cancelled():
            task.exception()  # known, also where nobody waits for it any more

    @property
    def is_running(self) -> bool:
        """Until its clean-up has ended too."""
        return not self.task.done()

    def give_up(self) -> None:
        """Ends it as a cancelled job, unless it has ended."""
        self.task.cancel()

    async def output(self) -> Answer:
        """Raises JobError. Whoever waits here may be cancelled without harm to the run."""
        return await asyncio.shield(self.task)

    async def news(self) -> AsyncIterator[Progress | None]:
        """Its progress to its end; None from time to time where there is none, so that a connection shows life."""
        while True:
            try:
                progress = await asyncio.wait_for(self._progress.news.get(), BEAT_S)
            except TimeoutError:
                yield None
                continue
            if progress is None:
                return
            yield progress

    def seconds_left(self) -> float:
        """A guess: at the pace of the steps so far, never past the deadline."""
        passed_s, share = time.monotonic() - self._began, self._progress.share
        guess_s = passed_s * (1 - share) / share if share > 0 else UNKNOWN_S
        return max(1.0, min(guess_s, self._deadline_s - passed_s))
