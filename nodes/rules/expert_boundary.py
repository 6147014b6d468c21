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

    `starts_high` has one value a step. `above` is the rule for a sigma on its own.
    """

    def __init__(self, sigmas: Sequence[float], starts_high: Sequence[bool], above: Callable[[float], bool]):
        self.sigmas = list(sigmas)
        self.starts_high = list(starts_high)
        self.above = above
        self.step: int | None = None
        self.attempt: bool | None = None

    @property
    def n_high(self) -> int:
        """The number of high-noise steps; in a schedule that only falls, the index of the first low-noise step."""
        return sum(self.starts_high)

    @property
    def n_low(self) -> int:
        return len(self.starts_high) - self.n_high

    def is_high(self, sigma: float) -> bool:
        """True where the high-noise expert answers for an evaluation at `sigma`, now."""
        if not self.n_high or not self.n_low:
            return self.n_high > 0
        if self.attempt is not None:
            return self.attempt
        step = self.step
        if step is not None and step + 1 < len(self.starts_high):
            start, end = self.starts_high[step], self.starts_high[step + 1]
            if start == end:
                return start
        return self.above(sigma)

    def step_began(self, step: int, sigma: float) -> None:
        """Notes what the sampler reports: it is in `step`, and its last evaluation was at `sigma`.

        A sampler that does not evaluate at the schedule's own sigmas chooses its steps itself (a restart sampler);
        then the schedule says nothing about them and each evaluation goes by its own sigma.
        """
        on_schedule = 0 <= step < len(self.starts_high) and math.isclose(sigma, self.sigmas[step], abs_tol=1e-6)
        self.step = step if on_schedule else None

    def attempt_began(self, sigma: float) -> None:
        """Notes that an adaptive sampler tries a step from `sigma`: the expert there answers for the whole attempt.

        It may fail and be tried again with a shorter step. Were each evaluation to go by its own sigma, the jump from
        one network to the other would look like an error of the step, and the experts would change with every try.
        """
        self.attempt = self.above(sigma)


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
