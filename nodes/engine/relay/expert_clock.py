"""How long each part of a relay took."""

from __future__ import annotations

import time

import comfy.model_management


class ExpertClock:
    """Seconds per phase: "high_noise", "low_noise", and "load_high_noise", "load_low_noise" before them.

    On a GPU the phases are true times although nothing waits for the GPU on purpose: the relay reads each
    evaluation's sigma, which comes after everything queued before it, and `finish` waits once at the end.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase: str | None = None
        self._since = 0.0

    def start(self, phase: str) -> None:
        """Ends the running phase and starts `phase`."""
        now = time.perf_counter()
        if self._phase is not None:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def stop(self) -> None:
        """Ends the running phase."""
        if self._phase is not None:
            self.start(self._phase)
            self._phase = None

    def finish(self) -> None:
        """Waits until the GPU has done what was queued, and stops."""
        comfy.model_management.synchronize()
        self.stop()
