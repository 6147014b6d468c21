"""A task's way in words and in figures, from what the worker's job or a RunPod endpoint says."""

import time
from collections.abc import Callable, Sequence

from ..contract.progress import Progress, Stage
from ..contract.video_answer import SeriesVideo
from .record import Record

_BEGINS: dict[Stage, str] = {
    "downloading": "downloading LoRAs",
    "waiting": "waiting for ComfyUI",
    "loading": "ComfyUI is ready",
    "decoding": "decoding the frames",
    "upscaling": "making the frames larger",
    "interpolating": "making the frames in between",
    "saving": "saving the video",
}
_EXPERTS = {
    "opening": "opening leg, ",
    "high_noise": "high-noise expert, ",
    "low_noise": "low-noise expert, ",
    None: "",
}


class Narrator:
    """A Follower that writes it all into the task's record."""

    def __init__(self, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        self._last: Progress | None = None
        self._first_step: tuple[int, float] | None = None

    def log(self, text: str) -> None:
        self._record.log(text)

    def stage(self, stage: Stage, text: str | None = None) -> None:
        """In its usual words, or in these. Where `waiting` comes again, ComfyUI has ended in between."""
        if stage == "waiting" and self._last is not None and self._last.stage not in ("downloading", "waiting"):
            self.log("ComfyUI ended, and is started again")
        elif self._last is None or self._last.stage != stage:
            self.log(text or _BEGINS[stage])
        if stage in ("downloading", "waiting", "loading"):
            self._first_step = None
        self._show(Progress.of_stage(stage, self._last.steps if self._last else 0))

    def step(
        self, step: int, steps: int, switch_step: int | None, opening_steps: int = 0, node: str | None = None
    ) -> None:
        self.heard(Progress.of_step(step, steps, switch_step, opening_steps, node))

    def video(self, number: int, count: int, made: Sequence[SeriesVideo]) -> None:
        self.log(f"video {number} of {count}")

    def heard(self, progress: Progress) -> None:
        """A step of the sampler. The same one again says nothing."""
        if self._last is not None and (self._last.stage, self._last.step) == ("sampling", progress.step):
            return
        seconds_left = self._seconds_left(progress.step, progress.steps)
        self.log(f"{_EXPERTS[progress.expert]}step {progress.step} of {progress.steps}")
        self._show(progress.model_copy(update={"seconds_left": seconds_left}))

    def _seconds_left(self, step: int, steps: int) -> float | None:
        """By the pace since the first step that was heard of: the models were loaded before that one ended."""
        now = self._clock()
        if self._first_step is None or step <= self._first_step[0]:
            self._first_step = (step, now)
            return None
        first, since = self._first_step
        return round((now - since) / (step - first) * (steps - step), 1)

    def _show(self, progress: Progress) -> None:
        self._last = progress
        self._record.progress(progress)
