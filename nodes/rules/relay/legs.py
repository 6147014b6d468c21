"""Which leg of a relay answers: an ordered list of legs over one schedule, each with an end; two experts are two legs.

A leg answers from where the one before it ended: down to a noise level (the Wan2.2 reference's rule, see
`expert_boundary`), or for the first steps of the run (the distilled models' rule). The last leg has no end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .expert_boundary import TOLERANCE_TIMESTEPS, is_high_noise

SAME_SIGMA = 1e-3
"""Samplers that cannot start at sigma 1 begin a little below it."""


class End(NamedTuple):
    """The end of a leg: the lowest noise level that it answers at, or the first step that it does not take."""

    boundary: float | None = None
    step: int | None = None


class LegRoute:
    """The leg of every evaluation of one sampler run, as its place in the order of the legs.

    A step's first evaluation goes to the first leg that has not ended at it. Solvers that look further inside a step
    (Heun, dpm_2, SDE and ancestral samplers) get their step's leg, and only in a step that crosses over does each
    evaluation go by its own sigma, between that step's leg and the next step's. So no solver sends the legs back and
    forth within a step, and they change as often as the schedule crosses an end: once each. A leg without a step is
    never needed.

    The sampler's evaluations go through `ask` and its step reports through `reported`. `starts` has one leg a step;
    `leg_at` is the rule for a sigma on its own; `asked` holds the sigma of every evaluation so far; `stepping` says
    whose steps the sampler takes:

        "schedule"   the schedule's, as nearly every sampler does. Checked with every report: a sampler that was not
                     at the schedule's sigma (a restart sampler) goes by its own sigmas until it is there again.
        "own"        its own (dpm_fast): each evaluation goes by its own sigma.
        "adaptive"   its own, tried again with a shorter step when an attempt fails (dpm_adaptive): the leg where an
                     attempt starts answers for the whole of it. Else the jump from one network to the other would
                     look like an error of the step, and the legs would change with every attempt.
    """

    def __init__(self, sigmas: Sequence[float], starts: Sequence[int], leg_at: Callable[[float], int]):
        self.sigmas = list(sigmas)
        self.starts = list(starts)
        self.leg_at = leg_at
        self.stepping = "schedule"
        self.asked: list[float] = []
        self._step: int | None = None
        self._attempt: int | None = None
        self._between_steps = True

    def steps_of(self, leg: int) -> int:
        """The number of steps that start in `leg`."""
        return self.starts.count(leg)

    def ask(self, sigma: float) -> int:
        """The leg that answers for the evaluation at `sigma` that comes now."""
        if self._between_steps and self.stepping == "adaptive":
            self._attempt = self._taking_steps(self.leg_at(sigma))
        self._between_steps = False
        self.asked.append(sigma)
        return self.leg(sigma)

    def reported(self, step: int) -> None:
        """Notes that the sampler reports `step`, which samplers do once a step, after its first evaluation or its
        last one."""
        self._between_steps = True
        last_sigma = self.asked[-1] if self.asked else math.nan
        there = 0 <= step < len(self.starts) and abs(last_sigma - self.sigmas[step]) < SAME_SIGMA
        self._step = step if there and self.stepping == "schedule" else None

    def leg(self, sigma: float) -> int:
        """The leg that would answer at `sigma` in the step that the sampler is in."""
        if self._attempt is not None:
            return self._attempt
        own = self._taking_steps(self.leg_at(sigma))
        if self._step is not None and self._step + 1 < len(self.starts):
            first, last = sorted(self.starts[self._step : self._step + 2])
            return min(max(own, first), last)
        return own

    def _taking_steps(self, leg: int) -> int:
        """`leg` itself where it takes a step, else the one before it that does, else the first one that does."""
        taking = set(self.starts) or {leg}
        return max((each for each in taking if each <= leg), default=min(taking))


def route_of(sigmas: Sequence[float], ends: Sequence[End]) -> LegRoute:
    """The route of len(ends) + 1 legs over a schedule (steps + 1 sigmas, or none for a run without a step)."""

    def goes_on(end: End, sigma: float) -> bool:
        if end.boundary is not None:
            return is_high_noise(sigma, end.boundary)
        end_timestep = sigmas[min(end.step or 0, len(sigmas) - 1)] * 1000 if sigmas else 0.0
        return sigma * 1000 > end_timestep + TOLERANCE_TIMESTEPS

    def leg_at(sigma: float) -> int:
        return next((leg for leg, end in enumerate(ends) if goes_on(end, sigma)), len(ends))

    def leg_of(step: int) -> int:
        """By the number of the step where an end is one: a schedule may rise again."""
        goes_on_there = (step < end.step if end.step is not None else goes_on(end, sigmas[step]) for end in ends)
        return next((leg for leg, is_before in enumerate(goes_on_there) if is_before), len(ends))

    return LegRoute(sigmas, [leg_of(step) for step in range(len(sigmas) - 1)], leg_at)
