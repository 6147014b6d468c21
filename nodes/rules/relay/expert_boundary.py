"""Which Wan2.2 expert a noise level belongs to.

The reference (Wan-Video/Wan2.2, `image2video.py`) asks the high-noise expert for a step while the timestep at the
START of the step is at or above `boundary * 1000`, and the low-noise expert after that. Sigma is timestep / 1000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

BOUNDARIES = {"i2v": 0.9, "t2v": 0.875}
"""The reference's boundary of each A14B family."""

TOLERANCE_TIMESTEPS = 1e-3
"""Equality belongs to the high-noise expert, also where float32 makes 0.9 into 0.89999998 (shift 3 at half way)."""

SAME_SIGMA = 1e-3
"""Samplers that cannot start at sigma 1 begin a little below it."""


def is_high_noise(sigma: float, boundary: float) -> bool:
    """True where the high-noise expert answers for a step that starts at `sigma` (0 to 1)."""
    return sigma * 1000 >= boundary * 1000 - TOLERANCE_TIMESTEPS


def count_high_steps(sigmas: Sequence[float], boundary: float) -> int:
    """How many steps of a schedule (steps + 1 sigmas) start at or above the boundary: the first low-noise step."""
    return sum(is_high_noise(sigma, boundary) for sigma in sigmas[:-1])


class ExpertRoute:
    """The expert of every evaluation of one sampler run.

    A step's first evaluation follows the reference's rule. Solvers that look further inside a step (Heun, dpm_2, SDE
    and ancestral samplers) get their step's expert, and only in a step that crosses over does each evaluation go by
    its own sigma. So no solver sends the experts back and forth within a step, and the experts change as often as
    the schedule crosses the boundary: once. A run whose steps all start on one side never needs the other expert.

    The sampler's evaluations go through `ask` and its step reports through `reported`. `starts_high` has one value a
    step; `above` is the rule for a sigma on its own; `asked` holds the sigma of every evaluation so far; `stepping`
    says whose steps the sampler takes:

        "schedule"   the schedule's, as nearly every sampler does. Checked with every report: a sampler that was not
                     at the schedule's sigma (a restart sampler) goes by its own sigmas until it is there again.
        "own"        its own (dpm_fast): each evaluation goes by its own sigma.
        "adaptive"   its own, tried again with a shorter step when an attempt fails (dpm_adaptive): the expert where
                     an attempt starts answers for the whole of it. Else the jump from one network to the other would
                     look like an error of the step, and the experts would change with every attempt.
    """

    def __init__(self, sigmas: Sequence[float], starts_high: Sequence[bool], above: Callable[[float], bool]):
        self.sigmas = list(sigmas)
        self.starts_high = list(starts_high)
        self.above = above
        self.stepping = "schedule"
        self.asked: list[float] = []
        self._step: int | None = None
        self._attempt: bool | None = None
        self._between_steps = True

    @property
    def n_high(self) -> int:
        """The number of high-noise steps; in a schedule that only falls, the index of the first low-noise step."""
        return sum(self.starts_high)

    @property
    def n_low(self) -> int:
        return len(self.starts_high) - self.n_high

    def ask(self, sigma: float) -> bool:
        """True where the high-noise expert answers for the evaluation at `sigma` that comes now."""
        if self._between_steps and self.stepping == "adaptive":
            self._attempt = self.above(sigma)
        self._between_steps = False
        self.asked.append(sigma)
        return self.is_high(sigma)

    def reported(self, step: int) -> None:
        """Notes that the sampler reports `step`, which samplers do once a step, after its first evaluation or its
        last one."""
        self._between_steps = True
        last_sigma = self.asked[-1] if self.asked else math.nan
        there = 0 <= step < len(self.starts_high) and abs(last_sigma - self.sigmas[step]) < SAME_SIGMA
        self._step = step if there and self.stepping == "schedule" else None

    def is_high(self, sigma: float) -> bool:
        """True where the high-noise expert would answer at `sigma` in the step that the sampler is in."""
        if not self.n_high or not self.n_low:
            return self.n_high > 0
        if self._attempt is not None:
            return self._attempt
        if self._step is not None and self._step + 1 < len(self.starts_high):
            start, end = self.starts_high[self._step : self._step + 2]
            if start == end:
                return start
        return self.above(sigma)


def route_by_boundary(sigmas: Sequence[float], boundary: float) -> ExpertRoute:
    """The reference's rule: high noise while a step starts at or above `boundary`."""

    def above(sigma: float) -> bool:
        return is_high_noise(sigma, boundary)

    return ExpertRoute(sigmas, [above(sigma) for sigma in sigmas[:-1]], above)


def route_by_step(sigmas: Sequence[float], switch_step: int) -> ExpertRoute:
    """The distilled models' rule: the first `switch_step` steps are high noise; the switch is at their end sigma."""
    steps = max(len(sigmas) - 1, 0)
    switch_timestep = sigmas[min(switch_step, steps)] * 1000 if sigmas else 0.0

    def above(sigma: float) -> bool:
        return sigma * 1000 > switch_timestep + TOLERANCE_TIMESTEPS

    return ExpertRoute(sigmas, [step < switch_step for step in range(steps)], above)
