"""Which expert each sampler asks at which sigma."""

from itertools import groupby
from typing import Any

import comfy.model_management
import pytest
import torch
from wan_relay.nodes.engine.relay.flow_solvers import make_sampler, sampler_names
from wan_relay.tests.engine.relay.relay_runs import RISING, Pair, largest_difference, run

pytestmark = pytest.mark.comfy

ONE_EVALUATION = [
    "euler",
    "euler_ancestral",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "lcm",
    "ddim",
    "ipndm",
    "deis",
]
ONE_EVALUATION += ["res_multistep", "res_multistep_ancestral", "er_sde", "sa_solver", "gradient_estimation", "uni_pc"]
ONE_EVALUATION += ["euler_cfg_pp", "flow_unipc", "flow_dpm++"]


@pytest.fixture(scope="module")
def pair() -> Any:
    return Pair()


def experts_in_order(asked: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in groupby(name for name, _ in asked)]


@pytest.mark.parametrize("sampler", ONE_EVALUATION)
def test_every_step_asks_the_expert_of_its_start(pair: Any, sampler: str) -> None:
    sigmas = pair.sigmas(8, sampler).tolist()
    pair.relay(sampler, torch.tensor(sigmas))
    asked = [key for key, _ in groupby(pair.asked)]  # uni_pc asks the first sigma twice
    assert [name for name, _ in asked] == ["high" if sigma >= 0.9 - 1e-6 else "low" for sigma in sigmas[:-1]]
    assert [sigma for _, sigma in asked] == pytest.approx(sigmas[:-1], abs=1e-4)  # some cannot start at 1 itself


def test_every_sampler_changes_the_expert_once(pair: Any) -> None:
    for steps in (4, 8):
        for sampler in sampler_names():
            result = pair.relay(sampler, pair.sigmas(steps, sampler))
            assert experts_in_order(pair.asked) == ["high", "low"], (sampler, steps)
            assert torch.isfinite(result).all(), (sampler, steps)


@pytest.mark.parametrize(
    ("sampler", "experts", "sigmas"),
    [
        ("heun", "HHHLLLL", [1, 0.9375, 0.9375, 0.83333, 0.83333, 0.625, 0.625]),
        # heunpp2 looks two steps ahead: at 0.83333 from its first step already, which stays with one expert.
        ("heunpp2", "HHHHLLLLL", [1, 0.9375, 0.83333, 0.9375, 0.83333, 0.625, 0.83333, 0.625, 0.625]),
    ],
)
def test_evaluations_inside_a_step(pair: Any, sampler: str, experts: str, sigmas: list[float]) -> None:
    pair.relay(sampler, pair.sigmas(4))
    assert [sigma for _, sigma in pair.asked] == sigmas
    assert "".join(name[0].upper() for name, _ in pair.asked) == experts


@pytest.mark.parametrize("sampler", ["dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "seeds_3", "exp_heun_2_x0"])
def test_every_step_start_is_the_references_however_the_solver_looks_around(pair: Any, sampler: str) -> None:
    sigmas = pair.sigmas(8, sampler)
    pair.relay(sampler, sigmas)
    starts = {round(sigma, 5) for sigma in sigmas.tolist()[:-1]}
    for name, sigma in pair.asked:
        if sigma in starts:
            assert name == ("high" if sigma >= 0.9 - 1e-6 else "low"), sigma


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "flow_unipc"])
@pytest.mark.parametrize("switch_step", [1, 3])
def test_step_mode_switches_at_that_steps_sigma(pair: Any, sampler: str, switch_step: int) -> None:
    sigmas = pair.sigmas(4, sampler)
    pair.relay(sampler, sigmas, switch="step", switch_step=switch_step)
    at_switch = round(float(sigmas[switch_step]), 5)
    assert experts_in_order(pair.asked) == ["high", "low"]
    assert all((name == "high") == (sigma > at_switch) for name, sigma in pair.asked)


@pytest.mark.parametrize(
    ("settings", "expert"),
    [
        ({"switch": "step", "switch_step": 0}, "low"),
        ({"switch": "step", "switch_step": 4}, "high"),
        ({"boundary": 0.6}, "high"),
    ],
)
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde", "dpm_adaptive"])
def test_a_run_of_one_expert_never_loads_the_other(
    pair: Any, monkeypatch: pytest.MonkeyPatch, sampler: str, settings: dict[str, Any], expert: str
) -> None:
    loaded = []
    load = comfy.model_management.load_models_gpu

    def count(models: list, *args: Any, **kwargs: Any) -> None:
        loaded.extend(models)
        load(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", count)
    pair.relay(sampler, pair.sigmas(4), **settings)
    assert {name for name, _ in pair.asked} == {expert}
    assert loaded == [pair.high if expert == "high" else pair.low]


def test_sigmas_that_begin_below_the_boundary_start_with_the_low_noise_expert(pair: Any) -> None:
    sigmas = pair.sigmas(8)
    guider = pair.guider()
    whole = run(guider, "euler", sigmas)
    first = run(guider, "euler", sigmas[:4])
    assert guider.model_patcher is pair.high
    pair.asked.clear()
    with torch.inference_mode():
        second = guider.sample(torch.zeros_like(first), first, make_sampler("euler"), sigmas[3:], disable_pbar=True)
    assert {name for name, _ in pair.asked} == {"low"}
    assert guider.model_patcher is pair.high
    assert largest_difference(whole, second) < 1e-5 * float(whole.std())


def test_a_schedule_that_rises_comes_back_to_the_first_expert(pair: Any) -> None:
    sigmas = torch.tensor(RISING)
    pair.relay("euler", sigmas)
    assert [name for name, _ in pair.asked] == ["high", "high", "low", "high", "low"]
