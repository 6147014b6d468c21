"""The relay is one solver run over two experts: each property is also shown to be noticed when it is broken."""

from typing import Any

import comfy.patcher_extension
import pytest
import torch
from wan_relay.nodes.engine.relay.relay_guider import RelayGuider
from wan_relay.nodes.rules.relay.expert_boundary import is_high_noise
from wan_relay.nodes.rules.relay.legs import LegRoute
from wan_relay.tests.engine.relay.relay_runs import LATENT_SHAPE, Pair, largest_difference, noise_for
from wan_relay.tests.engine.tiny_wan import bare_denoiser

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def pair() -> Any:
    return Pair()


def hand_written(pair: Any, sigmas: torch.Tensor, solver: str) -> torch.Tensor:
    """Euler or DPM++(2M) over the bare networks, each asked where the reference asks it."""
    high, low = (bare_denoiser(model, pair.positive) for model in (pair.high, pair.low))
    levels = sigmas.tolist()
    x, previous = noise_for(torch.zeros(LATENT_SHAPE)), None
    for step in range(len(levels) - 1):
        sigma, end = levels[step], levels[step + 1]
        denoised = (high if is_high_noise(sigma, 0.9) else low)(x, sigma)
        target = denoised
        if solver == "dpmpp_2m" and previous is not None and end > 0 and levels[step - 1] < 1:
            now, before, after = (torch.logit(torch.tensor(1 - s).double()) for s in (sigma, levels[step - 1], end))
            r = float((now - before) / (after - now))
            target = denoised + (denoised - previous) / (2 * r)
        x = end / sigma * x + (1 - end / sigma) * target
        previous = denoised
    return pair.high.model.process_latent_out(x)


def check_one_solver_run(pair: Any, solver: str, steps: int, guider_class: Any) -> None:
    sigmas = pair.sigmas(steps, scheduler="official_dpm++")
    relay = pair.relay(solver, sigmas, guider_class=guider_class)
    expected = hand_written(pair, sigmas, "dpmpp_2m" if solver == "flow_dpm++" else solver)
    assert largest_difference(relay, expected) < 2e-4 * float(expected.std())


def broken_guiders() -> dict[str, Any]:
    class OneStepEarly(RelayGuider):
        """Asks where a step ends instead of where it starts."""

        def make_route(self, sigmas: list[float]) -> LegRoute:
            route = super().make_route(sigmas)
            switch = sigmas[route.steps_of(0) - 1]
            starts = [int(step >= route.steps_of(0) - 1) for step in range(len(sigmas) - 1)]
            return LegRoute(sigmas, starts, lambda sigma: int(sigma <= switch))

    class TwoRuns(RelayGuider):
        """Chains two sampler runs: the second starts without the first one's history."""

        def sample(
            self, noise: Any, latent_image: Any, sampler: Any, sigmas: Any, *args: Any, **kwargs: Any
        ) -> torch.Tensor:
            n_high = self.make_route(sigmas.tolist()).steps_of(0)
            first, second = sigmas[: n_high + 1].clone(), sigmas[n_high:]
            latent = super().sample(noise, latent_image, sampler, self.first_part(first), *args, **kwargs)
            return super().sample(self.second_noise(noise), latent, sampler, second, *args, **kwargs)

        def first_part(self, sigmas: torch.Tensor) -> torch.Tensor:
            return sigmas

        def second_noise(self, noise: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(noise)

    class NoisedAgain(TwoRuns):
        """Denoises fully at the switch and adds the same noise again."""

        def first_part(self, sigmas: torch.Tensor) -> torch.Tensor:
            return torch.cat([sigmas[:-1], sigmas.new_zeros(1)])

        def second_noise(self, noise: torch.Tensor) -> torch.Tensor:
            return noise

    return {"one step early": OneStepEarly, "two runs": TwoRuns, "noised again": NoisedAgain}


@pytest.mark.parametrize("steps", [4, 8, 20])
@pytest.mark.parametrize("solver", ["euler", "flow_dpm++"])
def test_the_relay_is_one_solver_run_over_both_networks(pair: Any, solver: str, steps: int) -> None:
    check_one_solver_run(pair, solver, steps, RelayGuider)


@pytest.mark.parametrize(
    ("broken", "solver"),
    [
        ("one step early", "euler"),
        ("one step early", "flow_dpm++"),
        ("noised again", "euler"),
        ("noised again", "flow_dpm++"),
        ("two runs", "flow_dpm++"),
    ],
)
def test_a_broken_relay_is_noticed(pair: Any, broken: str, solver: str) -> None:
    with pytest.raises(AssertionError):
        check_one_solver_run(pair, solver, 8, broken_guiders()[broken])


@pytest.mark.parametrize("cfg", [1.0, 3.5])
def test_euler_equals_two_chained_samplers(pair: Any, cfg: float) -> None:
    """One evaluation a step and no history: the only difference is the rounding of the hand-over."""
    sigmas = pair.sigmas(8)
    relay = pair.relay("euler", sigmas, cfg=cfg)
    assert largest_difference(relay, pair.chain("euler", sigmas, 3, cfg)) < 1e-5 * float(relay.std())


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "uni_pc", "res_multistep", "flow_unipc"])
def test_multistep_solvers_keep_their_history_where_a_chain_loses_it(pair: Any, sampler: str) -> None:
    sigmas = pair.sigmas(8, sampler)
    n_high = pair.guider().make_route(sigmas.tolist()).steps_of(0)
    relay = pair.relay(sampler, sigmas)
    assert largest_difference(relay, pair.chain(sampler, sigmas, n_high)) > 1e-2 * float(relay.std())


def test_the_noise_at_the_switch_is_what_the_first_expert_left(pair: Any) -> None:
    """The network input of the first low-noise evaluation continues the last high-noise one, value by value."""
    inputs = []

    def keep(executor: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        denoised = executor(x, t, *args, **kwargs)
        inputs.append((float(t[0]), x.clone(), denoised.clone()))
        return denoised

    fresh = Pair()
    for model in (fresh.high, fresh.low):
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "keep", keep)
    fresh.relay("euler", fresh.sigmas(4))
    (sigma, x, denoised), (next_sigma, next_x, _) = inputs[1:3]
    assert (sigma, next_sigma) == pytest.approx((0.9375, 0.833333), abs=1e-5)
    assert [name for name, _ in fresh.asked] == ["high", "high", "low", "low"]
    expected = x + (x - denoised) / sigma * (next_sigma - sigma)
    torch.testing.assert_close(next_x, expected, rtol=1e-5, atol=1e-5)
