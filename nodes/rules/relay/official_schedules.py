"""The sigma schedules of the Wan2.2 reference, computed in float64.

Both are a straight line in the unshifted time s, then shifted once: sigma = shift * s / (1 + (shift - 1) * s).
They differ in where the line starts (Wan-Video/Wan2.2, `fm_solvers_unipc.py` and `fm_solvers.py`).
"""

from __future__ import annotations

OFFICIAL_SCHEDULES = ("official_unipc", "official_dpm++")


def shift_sigma(sigma: float, shift: float) -> float:
    """Moves an unshifted sigma (0 to 1) towards 1 for a shift above 1."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def official_unipc_sigmas(steps: int, shift: float) -> list[float]:
    """steps + 1 sigmas from just below 1 (the reference starts at 1 - 1/1000 before the shift) to 0."""
    return _line(steps, shift, start=0.999)


def official_dpmpp_sigmas(steps: int, shift: float) -> list[float]:
    """steps + 1 sigmas from 1 to 0."""
    return _line(steps, shift, start=1.0)


def _line(steps: int, shift: float, start: float) -> list[float]:
    return [shift_sigma(start * (1 - step / steps), shift) for step in range(steps)] + [0.0]
