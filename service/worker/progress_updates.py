"""Who hears of a job while it runs, and what the platform hears of it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..contract.progress import Progress, Stage
from ..contract.video_answer import SeriesVideo

EVERY_S = 2.0
QUIET_S = 0.5


class Follower(Protocol):
    """Told of a job's way, in its own loop; what it raises is the job's fault."""

    def stage(self, stage: Stage) -> None:
        """A stage begins; sampling begins with its first step."""

    def step(
        self, step: int, steps: int, switch_step: int | None, opening_steps: int = 0, node: str | None = None
    ) -> None:
        """`step` of `steps` is done; `switch_step` is the first low-noise one, None for a single model; `node` is the
        title of the node, in a workflow of the client's own.
        """

    def video(self, number: int, count: int, made: Sequence[SeriesVideo]) -> None:
        """Video `number` (from 1) of `count` begins; those `made` lie in the bucket already."""


class ProgressUpdates:
    """A Follower for the platform: at most one update in two seconds, none for the last step, steps alone.

    Where a video of several went to the bucket, an update says so at once: what is cancelled later is not answered.

    An update travels in a thread of its own and could overtake the result, which then would be lost.
    """

    def __init__(self, send: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._last = -EVERY_S
        self._series: tuple[int, int, Sequence[SeriesVideo]] | None = None

    def stage(self, stage: Stage) -> None:
        pass

    def step(
        self, step: int, steps: int, switch_step: int | None, opening_steps: int = 0, node: str | None = None
    ) -> None:
        now = self._clock()
        if step < steps and now - self._last >= EVERY_S:
            self._tell(Progress.of_step(step, steps, switch_step, opening_steps, node), now)

    def video(self, number: int, count: int, made: Sequence[SeriesVideo]) -> None:
        self._series = (number, count, made)
        if made:
            self._tell(Progress.of_stage("loading", 0), self._clock())

    def _tell(self, progress: Progress, now: float) -> None:
        self._last = now
        with contextlib.suppress(Exception):
            self._send(progress.of_several(*self._series) if self._series else progress)

    async def quiet(self) -> None:
        """Returns when the last update has had its time to arrive."""
        await asyncio.sleep(max(0.0, self._last + QUIET_S - self._clock()))
