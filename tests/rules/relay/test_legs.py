from __future__ import annotations

from collections.abc import Sequence

import pytest
from wan_relay.nodes.rules.relay.legs import End, LegRoute, route_of

FOUR_STEPS = [1.0, 0.9375, 0.8333333, 0.625, 0.0]


def by_boundary(sigmas: Sequence[float], boundary: float) -> LegRoute:
    return route_of(sigmas, [End(boundary=boundary)])


def by_step(sigmas: Sequence[float], switch_step: int) -> LegRoute:
    return route_of(sigmas, [End(step=switch_step)])


@pytest.mark.parametrize(
    ("switch_step", "high"), [(0, [0, 0, 0, 0]), (1, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (4, [1, 1, 1, 1])]
)
def test_a_by_step_switches_at_the_start_of_that_step(switch_step: int, high: list[int]) -> None:
    route = by_step(FOUR_STEPS, switch_step)
    assert [route.leg(sigma) for sigma in FOUR_STEPS[:-1]] == [1 - value for value in high]
    assert (route.steps_of(0), route.steps_of(1)) == (sum(high), 4 - sum(high))


def test_a_by_step_holds_whatever_the_sigmas_are() -> None:
    rising = [0.9, 0.95, 0.5, 0.2, 0.0]
    route = by_step(rising, 2)
    assert route.starts == [0, 0, 1, 1]


def asked(route: LegRoute, steps: list[list[float]], names: str = "HL") -> str:
    """The legs (H, L) of evaluations grouped by step, where the sampler reports each step after its first one."""
    experts = ""
    for step, sigmas in enumerate(steps):
        for index, sigma in enumerate(sigmas):
            experts += names[route.ask(sigma)]
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
    assert asked(by_boundary(FOUR_STEPS, 0.9), steps) == experts


def test_a_sampler_with_steps_of_its_own_goes_by_its_own_sigmas() -> None:
    route = by_boundary(FOUR_STEPS, 0.9)
    assert asked(route, [[0.99, 0.85], [0.95, 0.8], [0.7]]) == "HL HL L"


def test_a_schedule_that_rises_again_goes_back_to_the_high_noise_expert() -> None:
    restart = [1.0, 0.92, 0.5, 0.95, 0.91, 0.4, 0.0]
    steps = [[sigma] for sigma in restart[:-1]]
    assert asked(by_boundary(restart, 0.9), steps) == "H H L H H L"


def test_an_attempt_of_an_adaptive_sampler_keeps_its_expert() -> None:
    route = by_boundary([1.0, 0.001, 0.0], 0.9)
    route.stepping = "adaptive"
    experts = ""
    for step, attempt in enumerate([[1.0, 0.95], [0.95, 0.7, 0.5], [0.95, 0.9, 0.8], [0.85, 0.95, 0.5]]):
        experts += "".join("HL"[route.ask(sigma)] for sigma in attempt) + " "
        route.reported(step)
    assert experts == "HH HHH HHH LLL "


def test_a_sampler_that_only_takes_the_ends_is_not_held_by_the_schedule() -> None:
    route = by_boundary(FOUR_STEPS, 0.9)
    route.stepping = "own"
    assert asked(route, [[1.0, 0.92, 0.85], [0.8, 0.7]]) == "HHL LL"


@pytest.mark.parametrize(("sigmas", "leg"), [([1.0, 0.95, 0.92, 0.91], 0), ([0.8, 0.5, 0.0], 1)])
def test_a_run_on_one_side_never_asks_the_other_expert(sigmas: list[float], leg: int) -> None:
    route = by_boundary(sigmas, 0.9)
    assert {route.ask(sigma) for sigma in (1.0, 0.95, 0.9, 0.5, 0.0)} == {leg}


THREE = [End(step=1), End(boundary=0.9)]


def test_an_opening_leg_takes_its_steps_from_the_expert_that_they_would_belong_to() -> None:
    assert route_of(FOUR_STEPS, THREE).starts == [0, 1, 2, 2]
    assert route_of(FOUR_STEPS, [End(step=1), End(step=2)]).starts == [0, 1, 2, 2]
    assert route_of(FOUR_STEPS, [End(step=1), End(step=2), End(step=3)]).starts == [0, 1, 2, 3]
    assert route_of(FOUR_STEPS, [End(step=3), End(boundary=0.9)]).starts == [0, 0, 0, 2]
    assert route_of(FOUR_STEPS, [End(step=0), End(boundary=0.9)]).starts == [1, 1, 2, 2]
    assert route_of(FOUR_STEPS, [End(step=4), End(step=2)]).starts == [0, 0, 0, 0]
    assert route_of([0.9, 0.95, 0.5, 0.97, 0.0], [End(step=1), End(boundary=0.9)]).starts == [0, 1, 2, 1]
    assert route_of(FOUR_STEPS, [End(step=1)]).starts == [0, 1, 1, 1]


THREE_LEG_SOLVERS = {
    "one evaluation a step": ([[1.0], [0.9375], [0.8333333], [0.625]], "O H L L"),
    "Heun": ([[1.0, 0.9375], [0.9375, 0.8333333], [0.8333333, 0.625], [0.625]], "OH HL LL L"),
    "heunpp2 looks over a whole leg": (
        [[1.0, 0.9375, 0.8333333], [0.9375, 0.8333333, 0.625], [0.8333333, 0.625, 0.0], [0.625]],
        "OHH HLL LLL L",
    ),
    "an ancestral step looks far down": ([[1.0, 0.5], [0.9375, 0.5], [0.8333333, 0.5], [0.625]], "OH HL LL L"),
}


@pytest.mark.parametrize(("steps", "legs"), THREE_LEG_SOLVERS.values(), ids=THREE_LEG_SOLVERS.keys())
def test_three_legs_change_once_each_however_the_solver_looks_around(steps: list[list[float]], legs: str) -> None:
    """A step that crosses over stays between its own leg and the next one's."""
    assert asked(route_of(FOUR_STEPS, THREE), steps, "OHL") == legs


def test_a_sampler_with_steps_of_its_own_goes_by_the_sigmas_of_all_legs() -> None:
    route = route_of(FOUR_STEPS, THREE)
    route.stepping = "own"
    assert asked(route, [[1.0, 0.94, 0.93, 0.6], [0.95], [0.91]], "OHL") == "OOHL O H"


def test_a_leg_without_a_step_is_never_asked() -> None:
    route = route_of(FOUR_STEPS, [End(step=1), End(boundary=0.6)])
    assert {route.leg(sigma) for sigma in (0.9375, 0.62, 0.3, 0.0)} == {1}
    route = route_of(FOUR_STEPS, [End(step=3), End(boundary=0.6)])
    assert [route.leg(sigma) for sigma in (1.0, 0.626, 0.624, 0.3)] == [0, 0, 1, 1]
