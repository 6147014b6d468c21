from collections.abc import Callable, Sequence

import pytest
from wan_relay.nodes.rules.relay.expert_boundary import count_high_steps, is_high_noise
from wan_relay.tests.golden_schedules import CASES

# The reference truncates timesteps to integers, so float noise makes 875 into 874 here and its step a low-noise one.
TRUNCATED = {("official_dpm++", 50, 3.0): (0, 1)}


@pytest.mark.parametrize(
    ("sigma", "boundary", "high"),
    [
        (0.9, 0.9, True),
        (0.89999998, 0.9, True),  # float32's 0.9
        (0.899998, 0.9, False),
        (0.9000001, 0.9, True),
        (0.875, 0.875, True),
        (0.874999, 0.875, True),
        (0.87499, 0.875, False),
        (0.0, 0.0, True),
        (0.9999, 1.0, False),
        (1.0, 1.0, True),
    ],
)
def test_equality_belongs_to_the_high_noise_expert(sigma: float, boundary: float, high: bool) -> None:
    assert is_high_noise(sigma, boundary) is high


def check_first_low_steps(count: Callable[[Sequence[float], float], int]) -> None:
    for case in CASES:
        more_900, more_875 = TRUNCATED.get(case[:3], (0, 0))
        expected = (case.first_low_900 + more_900, case.first_low_875 + more_875)
        assert (count(case.sigmas, 0.9), count(case.sigmas, 0.875)) == expected, case[:3]


def test_the_first_low_step_of_every_golden_schedule() -> None:
    assert len(CASES) == 208
    check_first_low_steps(count_high_steps)


def test_a_rule_that_looks_at_the_end_of_a_step_would_be_noticed() -> None:
    def one_step_early(sigmas: Sequence[float], boundary: float) -> int:
        return sum(is_high_noise(sigma, boundary) for sigma in sigmas[1:])

    with pytest.raises(AssertionError):
        check_first_low_steps(one_step_early)


def test_a_strict_rule_would_be_noticed() -> None:
    def strict(sigmas: Sequence[float], boundary: float) -> int:
        return sum(sigma * 1000 >= boundary * 1000 for sigma in sigmas[:-1])

    with pytest.raises(AssertionError):
        check_first_low_steps(strict)
