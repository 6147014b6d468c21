"""Which Wan2.2 expert a noise level belongs to.

The reference (Wan-Video/Wan2.2, `image2video.py`) asks the high-noise expert for a step while the timestep at the
START of the step is at or above `boundary * 1000`, and the low-noise expert after that. Sigma is timestep / 1000.
"""

from __future__ import annotations

from collections.abc import Sequence

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
