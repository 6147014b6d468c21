from collections.abc import Callable
from typing import Any

import comfy.samplers
import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from wan_relay.nodes.engine.relay.flow_solvers import FLOW_SOLVERS, make_sampler, sampler_names
from wan_relay.nodes.rules.relay.expert_boundary import is_high_noise
from wan_relay.nodes.rules.relay.official_schedules import official_dpmpp_sigmas, official_unipc_sigmas
from wan_relay.tests.engine.relay import flow_reference
from wan_relay.tests.engine.tiny_wan import bare_denoiser, conditioning, tiny_wan

pytestmark = pytest.mark.comfy

STEPS = [8, 20, 40]
SHAPE = (1, 16, 3, 4, 4)


@pytest.fixture(scope="module")
def experts() -> Callable[[torch.Tensor, float], torch.Tensor]:
    """denoise(x, sigma) of a pair of tiny experts on the bare networks, switched at sigma 0.9."""
    high, low = (bare_denoiser(tiny_wan(seed=seed), conditioning(3)) for seed in (1, 2))

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return (high if is_high_noise(sigma, 0.9) else low)(x, sigma)

    return denoise


def start() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(11))


def run(solver: str, denoise: Callable, sigmas: Any, x: torch.Tensor | None = None) -> torch.Tensor:
    def model(x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
        return denoise(x, float(sigma[0]))

    function = make_sampler(solver).sampler_function
    return function(model, start() if x is None else x, torch.FloatTensor(sigmas), disable=True)


def relative_error(actual: torch.Tensor, expected: Any) -> float:
    expected = torch.as_tensor(np.asarray(expected))
    return float((actual.double() - expected).abs().max() / expected.abs().max())


def in_float64(solver: Callable, denoise: Callable, sigmas: list[float]) -> np.ndarray:
    def float64_denoise(x: np.ndarray, sigma: float) -> np.ndarray:
        return denoise(torch.as_tensor(x).float(), sigma).double().numpy()

    return solver(float64_denoise, start().double().numpy(), sigmas)


CASES = {
    "flow_unipc": (official_unipc_sigmas, flow_reference.unipc),
    "flow_dpm++": (official_dpmpp_sigmas, flow_reference.dpmpp_2m),
}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("solver", CASES)
def test_solvers_match_the_papers_in_float64(solver: str, steps: int, experts: Callable) -> None:
    schedule, reference = CASES[solver]
    sigmas = torch.FloatTensor(schedule(steps, 5.0)).tolist()
    assert relative_error(run(solver, experts, sigmas), in_float64(reference, experts, sigmas)) < 1e-4


def diffusers_run(scheduler: Any, denoise: Callable, steps: int) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    x = start()
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        x = scheduler.step((x - denoise(x, sigma)) / sigma, timestep, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("steps", STEPS)
def test_flow_unipc_matches_diffusers(steps: int, experts: Callable) -> None:
    scheduler: Any = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0, solver_order=2, solver_type="bh2"
    )
    expected = diffusers_run(scheduler, experts, steps)
    sigmas = scheduler.sigmas.tolist()
    assert 0 < sum(is_high_noise(sigma, 0.9) for sigma in sigmas) < steps
    assert relative_error(run("flow_unipc", experts, sigmas), expected) < 1e-4


@pytest.mark.parametrize("steps", STEPS)
def test_flow_dpmpp_matches_diffusers(steps: int, experts: Callable) -> None:
    scheduler: Any = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0, solver_order=2
    )
    expected = diffusers_run(scheduler, experts, steps)
    assert relative_error(run("flow_dpm++", experts, scheduler.sigmas.tolist()), expected) < 1e-4


def test_the_references_would_notice_a_lost_history(experts: Callable) -> None:
    """Restarting the solver at the boundary, as two chained samplers do, is far outside the tolerance."""
    sigmas = torch.FloatTensor(official_unipc_sigmas(20, 5.0)).tolist()
    switch = sum(is_high_noise(sigma, 0.9) for sigma in sigmas)
    whole = run("flow_unipc", experts, sigmas)
    first = run("flow_unipc", experts, sigmas[: switch + 1])
    assert relative_error(run("flow_unipc", experts, sigmas[switch:], first), whole) > 1e-2


@pytest.mark.parametrize("solver", CASES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_from_pure_noise_stay_finite(solver: str, steps: int, experts: Callable) -> None:
    """At sigma 1 the half log-SNR is minus infinity: the first two steps take the limits."""
    sigmas = torch.FloatTensor(official_dpmpp_sigmas(steps, 5.0)).tolist()
    nearly = [1 - 1e-7, *sigmas[1:]]
    result = run(solver, experts, sigmas)
    assert torch.isfinite(result).all()
    reference = CASES[solver][1]
    assert relative_error(result, in_float64(reference, experts, nearly)) < 0.02


@pytest.mark.parametrize("solver", CASES)
def test_a_schedule_may_end_above_zero(solver: str, experts: Callable) -> None:
    sigmas = torch.FloatTensor(official_unipc_sigmas(20, 5.0)[:12]).tolist()
    expected = in_float64(CASES[solver][1], experts, sigmas)
    if solver == "flow_unipc":
        assert relative_error(run(solver, experts, sigmas), expected) < 1e-4
    sixteen = torch.FloatTensor(official_unipc_sigmas(20, 5.0)[:17]).tolist()
    assert relative_error(run(solver, experts, sixteen), in_float64(CASES[solver][1], experts, sixteen)) < 1e-4


def test_one_network_evaluation_a_step_and_one_callback(experts: Callable) -> None:
    sigmas = torch.FloatTensor(official_unipc_sigmas(6, 5.0))
    for solver in CASES:
        evaluated: list[float] = []
        reported: list[tuple[int, float]] = []

        def model(x: torch.Tensor, sigma: torch.Tensor, evaluated: list = evaluated, **_: Any) -> torch.Tensor:
            evaluated.append(float(sigma[0]))
            return 0.5 * x

        make_sampler(solver).sampler_function(
            model,
            start(),
            sigmas,
            callback=lambda info, reported=reported: reported.append((info["i"], float(info["sigma"]))),
            disable=True,
        )
        assert evaluated == pytest.approx(sigmas.tolist()[:-1])
        assert reported == list(enumerate(evaluated))


def test_every_sampler_of_comfyui_is_still_there() -> None:
    assert sampler_names() == [*comfy.samplers.SAMPLER_NAMES, *FLOW_SOLVERS]
    assert all(isinstance(make_sampler(name), comfy.samplers.Sampler) for name in sampler_names())
