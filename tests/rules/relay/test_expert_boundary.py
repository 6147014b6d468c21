from collections.abc import Callable, Sequence

import pytest
from wan_relay.nodes.rules.relay.expert_boundary import (
    ExpertRoute,
    count_high_steps,
    is_high_noise,
    route_by_boundary,
    route_by_step,
)
from wan_relay.tests.golden_schedules import CASES

FOUR_STEPS = [1.0, 0.9375, 0.8333333, 0.625, 0.0]

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


@pytest.mark.parametrize(
    ("switch_step", "high"), [(0, [0, 0, 0, 0]), (1, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (4, [1, 1, 1, 1])]
)
def test_a_route_by_step_switches_at_the_start_of_that_step(switch_step: int, high: list[int]) -> None:
    route = route_by_step(FOUR_STEPS, switch_step)
    assert [route.is_high(sigma) for sigma in FOUR_STEPS[:-1]] == [bool(value) for value in high]
    assert (route.n_high, route.n_low) == (sum(high), 4 - sum(high))


def test_a_route_by_step_holds_whatever_the_sigmas_are() -> None:
    rising = [0.9, 0.95, 0.5, 0.2, 0.0]
    route = route_by_step(rising, 2)
    assert route.starts_high == [True, True, False, False]


def asked(route: ExpertRoute, steps: list[list[float]]) -> str:
    """The experts (H, L) of evaluations grouped by step, where the sampler reports each step after its first one."""
    experts = ""
    for step, sigmas in enumerate(steps):
        for index, sigma in enumerate(sigmas):
            experts += "H" if route.ask(sigma) else "L"
            if index == 0:
                route.reported(step)
        experts += " "
    return experts.strip()


SOLVERS = {
    "one evaluation a step": ([[1.0], [0.9375], [0.8333333], [0.625]], "H H L L"),
    "Heun looks at the end of the step": ([[1.0, 0.9375], [0.9375, 0.8333333], [0.8333333, 0.625]], "HH HL LL"),
    "heunpp2 looks two steps ahead": (
        [[1.0, 0.9375, 0.8333333], [0.9375, 0.8333333, 0.625], [0.8333333, 0.625, 0.0]],
        "HHH HLL LLL",
    ),
    "an ancestral step looks far down, then noise goes up": (
        [[1.0, 0.85], [0.9375, 0.7], [0.8333333, 0.5], [0.625]],
        "HH HL LL L",
    ),
    "evaluations between sigmas": ([[1.0, 0.96], [0.9375, 0.91, 0.86], [0.8333333, 0.7]], "HH HHL LL"),
}


@pytest.mark.parametrize(("steps", "experts"), SOLVERS.values(), ids=SOLVERS.keys())
def test_evaluations_inside_a_step_do_not_send_the_experts_back_and_forth(
    steps: list[list[float]], experts: str
) -> None:
    assert asked(route_by_boundary(FOUR_STEPS, 0.9), steps) == experts


def test_a_sampler_with_steps_of_its_own_goes_by_its_own_sigmas() -> None:
    route = route_by_boundary(FOUR_STEPS, 0.9)
    assert asked(route, [[0.99, 0.85], [0.95, 0.8], [0.7]]) == "HL HL L"


def test_a_schedule_that_rises_again_goes_back_to_the_high_noise_expert() -> None:
    restart = [1.0, 0.92, 0.5, 0.95, 0.91, 0.4, 0.0]
    steps = [[sigma] for sigma in restart[:-1]]
    assert asked(route_by_boundary(restart, 0.9), steps) == "H H L H H L"


def test_an_attempt_of_an_adaptive_sampler_keeps_its_expert() -> None:
    route = route_by_boundary([1.0, 0.001, 0.0], 0.9)
    route.stepping = "adaptive"
    experts = ""
    for step, attempt in enumerate([[1.0, 0.95], [0.95, 0.7, 0.5], [0.95, 0.9, 0.8], [0.85, 0.95, 0.5]]):
        experts += "".join("H" if route.ask(sigma) else "L" for sigma in attempt) + " "
        route.reported(step)
    assert experts == "HH HHH HHH LLL "


def test_a_sampler_that_only_takes_the_ends_is_not_held_by_the_schedule() -> None:
    route = route_by_boundary(FOUR_STEPS, 0.9)
    route.stepping = "own"
    assert asked(route, [[1.0, 0.92, 0.85], [0.8, 0.7]]) == "HHL LL"


@pytest.mark.parametrize(("sigmas", "high"), [([1.0, 0.95, 0.92, 0.91], True), ([0.8, 0.5, 0.0], False)])
def test_a_run_on_one_side_never_asks_the_other_expert(sigmas: list[float], high: bool) -> None:
    route = route_by_boundary(sigmas, 0.9)
    assert {route.ask(sigma) for sigma in (1.0, 0.95, 0.9, 0.5, 0.0)} == {high}
