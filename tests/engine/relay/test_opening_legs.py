"""Three and four legs are one solver run as two are, and all that works per expert works per leg."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import numpy as np
import pytest
import torch
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode
from comfy_extras.nodes_custom_sampler import CFGOverride
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from wan_relay.nodes.engine.relay.attention_guidance import apply_nag
from wan_relay.nodes.engine.relay.flow_solvers import make_sampler, sampler_names
from wan_relay.nodes.engine.relay.opening_leg import OpeningLeg
from wan_relay.nodes.engine.relay.relay_guider import RelayGuider
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.tests.engine.relay.relay_runs import LATENT_SHAPE, Pair, largest_difference, noise_for, run
from wan_relay.tests.engine.relay.test_hook_loras import hook_lora, keys, put_on
from wan_relay.tests.engine.relay.test_patches_per_expert import PATCHES
from wan_relay.tests.engine.relay.test_relay_models import lora_for
from wan_relay.tests.engine.tiny_wan import bare_denoiser, conditioning, tiny_wan

pytestmark = pytest.mark.comfy

SAME = 1e-5


class Legs(Pair):
    """A pair behind opening legs of one step each at cfg 3.5: the first of another model, the second of a third."""

    def __init__(self, num_opening: int = 1, cfg: float = 3.5) -> None:
        super().__init__()
        self.cfg = cfg
        self.openers = [
            self._recorded(f"opening {index}", with_shift(tiny_wan(seed=7 + index), 5.0))
            for index in range(num_opening)
        ]

    def legs(self) -> list[OpeningLeg]:
        return [OpeningLeg(model, 1, self.cfg) for model in self.openers]

    def guider(self, cfg: float = 1.0, guider_class: type[RelayGuider] = RelayGuider, **settings: Any) -> RelayGuider:
        return super().guider(cfg, guider_class, **{"opening": self.legs(), **settings})

    def chained(self, sampler: str, sigmas: torch.Tensor, cfg: float = 1.0, boundary: float = 0.9) -> torch.Tensor:
        """One sampler a leg after one another, as KSamplerAdvanced with leftover noise are wired."""
        n_high = sum(sigma >= boundary - 1e-6 for sigma in sigmas.tolist()[:-1])
        ends = [*range(1, len(self.openers) + 1), n_high, len(sigmas) - 1]
        models = [(model, self.cfg) for model in self.openers] + [(self.high, cfg), (self.low, cfg)]
        latent, start = torch.zeros(LATENT_SHAPE), 0
        for (model, own_cfg), end in zip(models, ends, strict=True):
            noise = noise_for(latent) if start == 0 else torch.zeros(LATENT_SHAPE)
            latent = comfy.samplers.sample(
                model, noise, self.positive, self.negative, own_cfg, model.load_device, make_sampler(sampler),
                sigmas[start : end + 1], model.model_options, latent_image=latent, disable_pbar=True, seed=5,
            )  # fmt: skip
            start = end
        return latent


@pytest.fixture
def legs() -> Any:
    return Legs()


def chain_difference(legs: Legs, steps: int = 8, cfg: float = 1.0) -> float:
    sigmas = legs.sigmas(steps)
    relay = legs.relay("euler", sigmas, cfg=cfg)
    return largest_difference(relay, legs.chained("euler", sigmas, cfg)) / float(relay.std())


@pytest.mark.parametrize("num_opening", [0, 1, 2])
@pytest.mark.parametrize("steps", [8, 20])
def test_a_float64_loop_over_the_bare_networks_gives_the_same(num_opening: int, steps: int) -> None:
    """The sum of the steps is kept in float64; each leg is asked where the sentence about it says."""
    legs = Legs(num_opening)
    sigmas = legs.sigmas(steps, scheduler="official_dpm++")
    levels = sigmas.double().tolist()
    x = noise_for(torch.zeros(LATENT_SHAPE)).double().numpy()
    for step, (sigma, end) in enumerate(pairwise(levels)):

        def ask(model: Any, prompt: list, x: np.ndarray = x, sigma: float = sigma) -> np.ndarray:
            answer = bare_denoiser(model, prompt)(torch.from_numpy(x).float(), sigma)
            return answer.double().numpy()

        if step < num_opening:
            with_prompt, without = (ask(legs.openers[step], prompt) for prompt in (legs.positive, legs.negative))
            denoised = without + 3.5 * (with_prompt - without)
        else:
            denoised = ask(legs.high if sigma * 1000 >= 900 else legs.low, legs.positive)
        x = x + (x - denoised) / sigma * (end - sigma)
    expected = legs.high.model.process_latent_out(torch.from_numpy(x).float())
    relay = legs.relay("euler", sigmas)
    assert largest_difference(relay, expected) < 1e-4 * float(expected.std())


@pytest.mark.parametrize("num_opening", [0, 1, 2])
@pytest.mark.parametrize("cfg", [1.0, 3.5])
def test_euler_equals_chained_samplers(num_opening: int, cfg: float) -> None:
    legs = Legs(num_opening)
    assert chain_difference(legs, 8, cfg) < SAME
    order = [name for name, _ in legs.asked]
    assert order[0] == ("opening 0" if num_opening else "high")


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "uni_pc", "res_multistep", "flow_unipc", "flow_dpm++"])
def test_multistep_samplers_keep_their_history_over_every_hand_over(sampler: str) -> None:
    """Where all legs are one model, the run is ComfyUI's own of that model; where not, chained samplers differ."""
    legs = Legs(2, cfg=1.0)
    sigmas = legs.sigmas(8, sampler)
    relay = legs.relay(sampler, sigmas)
    assert largest_difference(relay, legs.chained(sampler, sigmas)) > 1e-2 * float(relay.std())
    legs.openers = [legs.high.clone(), legs.high.clone()]
    legs.low = legs.high.clone()
    alone = comfy.samplers.CFGGuider(legs.high)
    alone.set_conds(legs.positive, legs.negative)
    assert torch.equal(legs.relay(sampler, sigmas), run(alone, sampler, sigmas))


def test_every_sampler_changes_each_leg_once(legs: Any) -> None:
    """But for the two with steps of their own, which may step over the one high-noise step."""
    for sampler in sampler_names():
        if sampler in ("dpm_fast", "dpm_adaptive"):
            continue
        result = legs.relay(sampler, legs.sigmas(4, sampler))
        order = [name for index, (name, _) in enumerate(legs.asked) if index == 0 or legs.asked[index - 1][0] != name]
        assert order == ["opening 0", "high", "low"], sampler
        assert torch.isfinite(result).all(), sampler


def test_prompts_of_its_own(legs: Any) -> None:
    sigmas = legs.sigmas(8)
    own = [leg._replace(positive=conditioning(21), negative=conditioning(22)) for leg in legs.legs()]
    relay = legs.relay("euler", sigmas, opening=own)
    first = comfy.samplers.sample(
        legs.openers[0], noise_for(torch.zeros(LATENT_SHAPE)), own[0].positive, own[0].negative, 3.5, "cpu",
        make_sampler("euler"), sigmas[:2], legs.openers[0].model_options, latent_image=torch.zeros(LATENT_SHAPE),
        disable_pbar=True, seed=5,
    )  # fmt: skip
    with torch.inference_mode():
        guider = legs.guider(opening=())
        rest = guider.sample(torch.zeros_like(first), first, make_sampler("euler"), sigmas[1:], disable_pbar=True)
    assert largest_difference(relay, rest) < SAME * float(rest.std())
    assert largest_difference(relay, legs.relay("euler", sigmas)) > 1e-2


@pytest.mark.parametrize("which", ["the opening leg", "all legs"])
@pytest.mark.parametrize("patch", PATCHES)
def test_every_row_of_what_works_per_expert_works_per_leg(legs: Any, patch: str, which: str) -> None:
    plain, sigmas, results = (legs.openers[0], legs.high, legs.low), legs.sigmas(8), []
    for way in (legs.relay, legs.chained):  # APG's momentum lasts beyond a run of one step: patches anew for each
        legs.openers = [PATCHES[patch](plain[0])]
        if which == "all legs":
            legs.high, legs.low = (PATCHES[patch](model) for model in plain[1:])
        results.append(way("euler", sigmas, cfg=3.0))
    assert largest_difference(*results) < SAME * float(results[0].std())


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_caches_on_all_legs_at_once(legs: Any, node: Any) -> None:
    def patched(model: Any) -> Any:
        return CFGOverride.execute(node.execute(model, 0.2, 0.0, 1.0, False).result[0], 2.0, 0.0, 1.0).result[0]

    legs.openers = [patched(legs.openers[0])]
    legs.high, legs.low = patched(legs.high), patched(legs.low)
    assert chain_difference(legs, 8) < SAME


def test_context_windows_on_all_legs(legs: Any) -> None:
    def windows(model: Any) -> Any:
        return WanContextWindowsManualNode.execute(
            model, 5, 0, "standard_static", 1, closed_loop=False, fuse_method="pyramid", freenoise=False
        ).result[0]

    legs.openers = [windows(legs.openers[0])]
    legs.high, legs.low = windows(legs.high), windows(legs.low)
    assert chain_difference(legs, 8) < SAME


def test_nag_on_the_leg_that_has_it(legs: Any) -> None:
    """The opening leg at cfg 3.5 has the same weights without NAG, and stays as it is."""
    plain = legs.relay("euler", legs.sigmas(4))
    legs.openers = [legs.high.clone()]
    without = legs.relay("euler", legs.sigmas(4))
    legs.high = apply_nag(legs.high, conditioning(9), 11.0, 0.25, 2.37, 0.0, "high_noise")[0]
    assert chain_difference(legs, 8) < SAME
    assert len({float(each.sum()) for each in (plain, without, legs.relay("euler", legs.sigmas(4)))}) == 3


@pytest.mark.parametrize("keyframes", [None, keys((0, 0), (1, 0.05)), keys((1, 0), (0, 0.2)), keys((1, 0), (0, 0.7))])
def test_hook_loras_and_their_keyframes(legs: Any, keyframes: Any) -> None:
    plain = legs.relay("euler", legs.sigmas(8))
    put_on(legs, hook_lora(keyframes), negative=True)
    assert chain_difference(legs, 8) < SAME
    assert largest_difference(legs.relay("euler", legs.sigmas(8)), plain) > 1e-3


def around(seen: list[str], name: str) -> Callable:
    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(name)
        return executor(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("kind", ["OUTER_SAMPLE", "SAMPLER_SAMPLE"])
def test_wrappers_of_each_leg_run_once_around_the_run(legs: Any, kind: str) -> None:
    seen: list[str] = []
    for name, model in (("opening", legs.openers[0]), ("high", legs.high), ("low", legs.low)):
        model.add_wrapper_with_key(getattr(comfy.patcher_extension.WrappersMP, kind), name, around(seen, name))
    legs.relay("euler", legs.sigmas(4))
    assert seen == ["opening", "high", "low"]


def test_mask_functions_belong_to_their_legs(legs: Any) -> None:
    seen: list[tuple[str, float]] = []

    def mask_function(name: str) -> Callable:
        def function(sigma: torch.Tensor, mask: torch.Tensor, extra_options: dict) -> torch.Tensor:
            seen.append((name, round(float(sigma[0]), 3)))
            return mask

        return function

    for name, model in (("opening", legs.openers[0]), ("high", legs.high), ("low", legs.low)):
        model.set_model_denoise_mask_function(mask_function(name))
    run(legs.guider(), "euler", legs.sigmas(4), mask=torch.ones(1, 1, *LATENT_SHAPE[2:]))
    assert seen == [("opening", 1.0), ("high", 0.938), ("low", 0.833), ("low", 0.625)]


def test_the_step_callback_runs_once_a_step_over_all_legs(legs: Any) -> None:
    seen: list[tuple[int, int]] = []
    run(legs.guider(), "euler", legs.sigmas(4), callback=lambda step, _, __, total: seen.append((step, total)))
    assert seen == [(step, 4) for step in range(4)]


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_cancel_in_any_leg_leaves_the_next_run_whole(legs: Any, evaluations: int) -> None:
    expected = legs.relay("dpmpp_2m", legs.sigmas(4))

    def cancel(step: int, *_: Any) -> None:
        if step == evaluations - 1:
            comfy.model_management.interrupt_current_processing()

    guider = legs.guider()
    legs.asked.clear()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(guider, "dpmpp_2m", legs.sigmas(4), callback=cancel)
    assert len({sigma for _, sigma in legs.asked}) == evaluations
    assert [model.model.current_patcher for model in (legs.openers[0], legs.high, legs.low)] == [None] * 3
    assert torch.equal(run(guider, "dpmpp_2m", legs.sigmas(4)), expected)


@pytest.mark.parametrize("which", ["opening", "high", "low"])
@pytest.mark.parametrize("where", ["prepare_sampling", "process_conds"])
def test_running_out_of_memory_in_any_leg_leaves_the_next_run_whole(
    legs: Any, monkeypatch: pytest.MonkeyPatch, which: str, where: str
) -> None:
    expected = legs.relay("dpmpp_2m", legs.sigmas(4))
    failing = legs.openers[0] if which == "opening" else getattr(legs, which)
    module = comfy.sampler_helpers if where == "prepare_sampling" else comfy.samplers
    works = getattr(module, where)

    def fails(model: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(model, "model", model) is failing.model:
            raise torch.OutOfMemoryError("no memory left")
        return works(model, *args, **kwargs)

    guider = legs.guider()
    with monkeypatch.context() as patch:
        patch.setattr(module, where, fails)
        with pytest.raises(torch.OutOfMemoryError):
            run(guider, "dpmpp_2m", legs.sigmas(4))
    assert guider.waiting == {}
    assert torch.equal(run(guider, "dpmpp_2m", legs.sigmas(4)), expected)


def test_the_same_weights_with_and_without_a_lora_are_patched_anew_and_not_loaded(
    legs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two networks are ever held, and each leg is asked for once. The opening leg's LoRA-free weights and the expert's
    are one network: handing over patches it. With one set of patches for both not even that happens."""
    base = legs.high
    twin = legs._recorded("high", with_shift(tiny_wan(seed=1), 5.0))
    networks: set[int] = set()
    counts: Counter = Counter()
    request, load = comfy.model_management.load_models_gpu, comfy.model_patcher.ModelPatcher.load

    def count_request(models: list, *args: Any, **kwargs: Any) -> None:
        counts["requests"] += len(models)
        networks.update(id(model.model) for model in models)
        request(models, *args, **kwargs)
        held = [loaded.model.model for loaded in comfy.model_management.current_loaded_models]
        assert len({id(network) for network in held}) == len(held)

    def count_load(self: Any, *args: Any, **kwargs: Any) -> None:
        counts["patched" if self.patches else "plain"] += 1
        load(self, *args, **kwargs)

    results = []
    for opening, expert in ((base, base), (twin, base)):
        legs.openers, legs.high = [opening.clone()], expert.clone()
        legs.high.add_patches(lora_for(legs.high, 3), 1.0)
        comfy.model_management.unload_all_models()
        if opening is base:
            with monkeypatch.context() as patch:
                patch.setattr(comfy.model_management, "load_models_gpu", count_request)
                patch.setattr(comfy.model_patcher.ModelPatcher, "load", count_load)
                results.append(legs.relay("euler", legs.sigmas(4)))
            assert (counts, len(networks)) == ({"requests": 3, "plain": 2, "patched": 1}, 2)
            assert chain_difference(legs, 8) < SAME
        else:
            results.append(legs.relay("euler", legs.sigmas(4)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    counts.clear()
    legs.openers, legs.high = [base.clone()], base.clone()
    comfy.model_management.unload_all_models()
    with monkeypatch.context() as patch:
        patch.setattr(comfy.model_patcher.ModelPatcher, "load", count_load)
        legs.relay("euler", legs.sigmas(4))
    assert counts == {"plain": 2}  # high noise for both of its legs, then low noise


def test_a_leg_that_takes_no_step_is_never_loaded(legs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    load = comfy.model_management.load_models_gpu

    def count(models: list, *args: Any, **kwargs: Any) -> None:
        loaded.extend(models)
        load(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", count)
    four = [leg._replace(steps=4) for leg in legs.legs()]
    legs.relay("euler", legs.sigmas(4), opening=four)
    assert loaded == legs.openers
    loaded.clear()
    legs.relay("euler", legs.sigmas(4), opening=[leg._replace(steps=2) for leg in legs.legs()])
    assert loaded == [*legs.openers, legs.low]


def test_more_opening_steps_than_the_schedule_has_are_refused(legs: Any) -> None:
    with pytest.raises(InvalidInput, match="opening takes 5 steps, and the schedule has 4"):
        legs.relay("euler", legs.sigmas(4), opening=[leg._replace(steps=5) for leg in legs.legs()])


def test_the_clock_counts_each_leg(legs: Any) -> None:
    guider = legs.guider()
    shown: list[str] = []
    guider.show = shown.append
    run(guider, "euler", legs.sigmas(4))
    names = ["high_noise", "low_noise", "opening"]
    assert sorted(guider.clock.seconds) == sorted(names + [f"load_{name}" for name in names])
    assert shown == [
        "opening leg from sigma 1.0000",
        "high-noise expert from sigma 0.9375",
        "low-noise expert from sigma 0.8333",
    ]
