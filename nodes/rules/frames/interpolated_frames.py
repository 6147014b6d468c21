"""How many frames a video has once each step between two of them is cut into equal pieces, and how fast they go."""

from fractions import Fraction

from ..errors import InvalidInput

MAX_FACTOR = 8


def interpolated_count(num_frames: int, factor: int) -> int:
    """Frames after the cut into `factor` pieces a step: 81 in 2 pieces are 161. Raises InvalidInput.

    The first and the last frame stay the first and the last, and every frame that was there stays.
    """
    if not 1 <= factor <= MAX_FACTOR:
        raise InvalidInput(f"factor must be 1 to {MAX_FACTOR}; got {factor}.")
    return factor * (num_frames - 1) + 1


def interpolated_rate(rate: Fraction, factor: int, max_rate: int) -> Fraction:
    """Frames a second that keep the pace. Raises InvalidInput where no video could be saved at them."""
    if rate * factor > max_rate:
        raise InvalidInput(f"fps x factor must be at most {max_rate}; got {float(rate):g} x {factor}.")
    return rate * factor
