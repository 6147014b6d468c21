"""What the platform hears of a job while it samples."""

import contextlib
import time
from collections.abc import Callable

from ..contract.progress import Expert, Progress

EVERY_S = 2.0


class ProgressUpdates:
    """At most one in two seconds, and none for the last step.

    An update travels in a thread of its own and could overtake the result, which then would be lost.
    """

    def __init__(self, send: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._last = -EVERY_S

    def step(self, step: int, steps: int, switch_step: int | None, opening_steps: int = 0) -> None:
        """`step` of `steps` is done; `switch_step` is the first low-noise one, None for a single model."""
        now = self._clock()
        if step >= steps or now - self._last < EVERY_S:
            return
        self._last = now
        expert: Expert | None = None
        if step <= opening_steps:
            expert = "opening"
        elif switch_step is not None:
            expert = "high_noise" if step <= switch_step else "low_noise"
        with contextlib.suppress(Exception):
            self._send(Progress(step=step, steps=steps, progress=round(step / steps, 3), expert=expert))
