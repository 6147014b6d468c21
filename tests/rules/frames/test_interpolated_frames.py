from fractions import Fraction

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.interpolated_frames import interpolated_count, interpolated_rate


@pytest.mark.parametrize(
    ("num_frames", "factor", "expected"),
    [(81, 1, 81), (81, 2, 161), (81, 5, 401), (161, 8, 1281), (1, 4, 1), (2, 3, 4)],
)
def test_frame_counts(num_frames, factor, expected):
    assert interpolated_count(num_frames, factor) == expected


@pytest.mark.parametrize("factor", [0, 9, -1])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(InvalidInput, match=rf"factor must be 1 to 8; got {factor}\."):
        interpolated_count(5, factor)


def test_the_rate_is_exact():
    assert interpolated_rate(Fraction(16), 2, 480) == 32
    assert interpolated_rate(Fraction(24000, 1001), 3, 480) == Fraction(72000, 1001)
    assert interpolated_rate(Fraction(60), 8, 480) == 480
    with pytest.raises(InvalidInput, match=r"fps x factor must be at most 480; got 120 x 5\."):
        interpolated_rate(Fraction(120), 5, 480)
