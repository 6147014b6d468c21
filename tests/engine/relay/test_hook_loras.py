"""LoRAs that hang on the prompt as hooks apply to both experts, each step at the strength that their keyframes say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.hooks
import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_hooks import CreateHookKeyframe, CreateHookKeyframesInterpolated, SetHookKeyframes
from node_helpers import conditioning_set_values
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.tests.engine.relay.relay_runs import (
    LATENT_SHAPE,
    RISING,
    Pair,
    alone,
    largest_difference,
    noise_for,
    run,
    twins,
)
from wan_relay.tests.engine.tiny_wan import bare_denoiser, tiny_wan

pytestmark = pytest.mark.comfy

SAME = 1e-5


def lora() -> tuple[torch.Tensor, torch.Tensor]:
    """(down, up) of a LoRA on the weight that `patched_weight` names."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(4, 128, generator=generator), torch.randn(64, 4, generator=generator)


def patched_weight(model: Any) -> torch.Tensor:
    return model.model.diffusion_model.blocks[0].ffn[0].weight


def keys(*pairs: tuple[float, float], guarantee_steps: int = 1) -> comfy.hooks.HookKeyframeGroup:
    """Create Hook Keyframe once a pair of (strength, start percent)."""
    group = None
    for strength, start_percent in pairs:
        (group,) = CreateHookKeyframe().create_hook_keyframe(strength, start_percent, group)
    for keyframe in group.keyframes:
        keyframe.guarantee_steps = guarantee_steps
    return group


def interpolated(start: float, end: float, method: str = "linear") -> comfy.hooks.HookKeyframeGroup:
    """Create Hook Keyframes Interp. with five keys over the whole run."""
    return CreateHookKeyframesInterpolated().create_hook_keyframes(start, end, method, 0.0, 1.0, 5)[0]


def hook_lora(keyframes: Any | None = None) -> comfy.hooks.HookGroup:
    down, up = lora()
    name = "diffusion_model.blocks.0.ffn.0"
    hooks = comfy.hooks.create_hook_lora({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, 1.0, 0.0)
    return SetHookKeyframes().set_hook_keyframes(hooks, keyframes)[0]


def put_on(pair: Any, hooks: comfy.hooks.HookGroup, negative: bool = False) -> None:
    pair.positive = comfy.hooks.set_hooks_for_conditioning(pair.positive, hooks)
    if negative:
        pair.negative = comfy.hooks.set_hooks_for_conditioning(pair.negative, hooks)


def chain_difference(pair: Any, sigmas: torch.Tensor, cfg: float = 1.0, **settings: Any) -> float:
    """Largest difference to two chained samplers over Euler, relative to the result."""
    relay = pair.relay("euler", sigmas, cfg=cfg, **settings)
    n_high = pair.guider(**settings).make_route(sigmas.tolist()).steps_of(0)
    return largest_difference(relay, pair.chain("euler", sigmas, n_high, cfg)) / float(relay.std())


@contextmanager
def strengthened(model: Any, strength: float) -> Iterator[None]:
    weight, (down, up) = patched_weight(model), lora()
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(strength * (up @ down))
        yield
        weight.copy_(before)


def hand_written(pair: Any, positive: list, sigmas: torch.Tensor, strengths: Sequence[float]) -> torch.Tensor:
    """Euler over the bare networks, whose weights hold the LoRA at each step's strength."""
    levels = sigmas.tolist()
    x = noise_for(torch.zeros(LATENT_SHAPE))
    for sigma, end, strength in zip(levels[:-1], levels[1:], strengths, strict=True):
        model = pair.high if sigma >= 0.9 - 1e-6 else pair.low
        with strengthened(model, strength):
            denoised = bare_denoiser(model, positive)(x, sigma)
        x = end / sigma * x + (1 - end / sigma) * denoised
    return pair.high.model.process_latent_out(x)


KEYFRAMES = {
    "off for the first step": (4, keys((0, 0), (1, 0.05)), [0, 1, 1, 1]),
    "on for the first step": (4, keys((1, 0), (0, 0.2)), [1, 0, 0, 0]),
    "off at the switch of 4 steps": (4, keys((1, 0), (0, 0.5)), [1, 1, 0, 0]),
    "off at the switch of 8 steps": (8, keys((1, 0), (0, 0.375)), [1, 1, 1, 0, 0, 0, 0, 0]),
    "on at the switch of 8 steps": (8, keys((0, 0), (1, 0.375)), [0, 0, 0, 1, 1, 1, 1, 1]),
    "three keys": (4, keys((1, 0), (0.5, 0.2), (0, 0.6)), [1, 0.5, 0.5, 0]),
    "five keys": (
        8,
        keys((1, 0), (0.8, 0.1), (0.6, 0.2), (0.4, 0.5), (0.2, 0.8)),
        [1, 0.8, 0.6, 0.6, 0.4, 0.4, 0.4, 0.2],
    ),
    "five keys in the first step, of which each holds for one": (
        8,
        keys((1, 0), (0.8, 0.01), (0.6, 0.02), (0.4, 0.03), (0.2, 0.04)),
        [1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2],
    ),
    "a key that holds for three steps": (4, keys((0, 0), (1, 0.05), guarantee_steps=3), [0, 0, 0, 1]),
    "interpolated keys in 4 steps": (4, interpolated(0, 1), [0, 0.25, 0.5, 0.75]),
    "interpolated keys in 8 steps": (8, interpolated(0, 1), [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]),
    "keys that ease out": (4, interpolated(1, 0, "ease_out"), [1, 0.5625, 0.25, 0.0625]),
}
ONE_RUN_ONLY = ("five keys in the first step, of which each holds for one", "a key that holds for three steps")
"""A chain's second sampler does not know how long a key has held, and leaves the keys before it at once."""


@pytest.mark.parametrize("name", KEYFRAMES)
def test_each_step_has_the_strength_of_its_keyframe(name: str) -> None:
    steps, keyframes, strengths = KEYFRAMES[name]
    pair = Pair()
    sigmas, plain = pair.sigmas(steps), pair.positive
    put_on(pair, hook_lora(keyframes))
    relay = pair.relay("euler", sigmas)
    expected = hand_written(pair, plain, sigmas, strengths)
    assert largest_difference(relay, expected) < SAME * float(expected.std())
    for step in range(steps):
        other = [*strengths]
        other[step] += 0.1
        assert largest_difference(relay, hand_written(pair, plain, sigmas, other)) > 10 * SAME * float(expected.std())


@pytest.mark.parametrize(("cfg", "negative"), [(1.0, False), (3.0, True)])
@pytest.mark.parametrize("name", [name for name in KEYFRAMES if name not in ONE_RUN_ONLY])
def test_keyframes_as_in_two_chained_samplers(name: str, cfg: float, negative: bool) -> None:
    steps, keyframes, _ = KEYFRAMES[name]
    pair = Pair()
    put_on(pair, hook_lora(keyframes), negative)
    assert chain_difference(pair, pair.sigmas(steps), cfg) < SAME


@pytest.mark.parametrize("switch_step", [1, 3])
def test_keyframes_where_one_expert_has_a_single_step(switch_step: int) -> None:
    pair = Pair()
    for keyframes in (keys((0, 0), (1, 0.05)), keys((1, 0), (0, 0.7))):
        put_on(pair, hook_lora(keyframes))
        assert chain_difference(pair, pair.sigmas(4), switch="step", switch_step=switch_step) < SAME


@pytest.mark.parametrize("hooked", ["high", "low"])
@pytest.mark.parametrize("keyframes", [None, keys((0, 0), (1, 0.05)), keys((1, 0), (0, 0.7))])
def test_hooks_on_the_prompt_of_one_expert(hooked: str, keyframes: Any) -> None:
    """The switch is at half of the schedule, and so is the change from one prompt to the next."""
    pair = Pair()
    plain = pair.relay("euler", pair.sigmas(4))
    prompts = {
        "high": conditioning_set_values(pair.positive, {"start_percent": 0.0, "end_percent": 0.4}),
        "low": conditioning_set_values(pair.positive, {"start_percent": 0.4, "end_percent": 1.0}),
    }
    prompts[hooked] = comfy.hooks.set_hooks_for_conditioning(prompts[hooked], hook_lora(keyframes))
    pair.positive = prompts["high"] + prompts["low"]
    assert chain_difference(pair, pair.sigmas(4)) < SAME
    assert largest_difference(pair.relay("euler", pair.sigmas(4)), plain) > 1e-2


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_sde", "seeds_3", "flow_unipc"])
@pytest.mark.parametrize("guarantee_steps", [1, 3])
def test_evaluations_inside_a_step_count_as_on_one_model(sampler: str, guarantee_steps: int) -> None:
    pair = twins()
    put_on(pair, hook_lora(keys((0, 0), (1, 0.05), (0.5, 0.3), (0.2, 0.6), guarantee_steps=guarantee_steps)))
    sigmas = pair.sigmas(6, sampler)
    assert torch.equal(pair.relay(sampler, sigmas), run(alone(pair), sampler, sigmas))


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("start_percent", [0.05, 0.45, 0.55])
def test_strengths_that_change_while_an_expert_waits(negative: bool, start_percent: float) -> None:
    pair = twins()
    put_on(pair, hook_lora(keys((1, 0), (0, start_percent))), negative)
    sigmas = torch.tensor(RISING)
    relay = pair.relay("euler", sigmas, cfg=3.0)
    assert [name for name, _ in pair.asked[:: len(pair.asked) // 5]] == ["high", "high", "low", "high", "low"]
    assert torch.equal(relay, run(alone(pair, 3.0), "euler", sigmas))


@pytest.mark.parametrize("levels", [[1.0, 0.95, 0.8, 0.5, 0.0], RISING])
def test_hooks_on_two_clones_of_one_model(levels: list[float]) -> None:
    """Clones share their weights, so that a hook LoRA must be off them before the other clone is patched."""
    results = []
    for low in ("a clone", "a model of its own"):
        pair = Pair()
        base, twin = pair.high, pair._recorded("low", with_shift(tiny_wan(seed=1), 5.0))
        pair.high, pair.low = base.clone(), (base if low == "a clone" else twin).clone()
        for seed, model in enumerate((pair.high, pair.low)):
            generator = torch.Generator().manual_seed(seed)
            patch = 0.5 * torch.randn(patched_weight(model).shape, generator=generator)
            model.add_patches({"diffusion_model.blocks.0.ffn.0.weight": (patch,)}, 1.0)
        put_on(pair, hook_lora(keys((1, 0), (0.5, 0.05))))
        results.append(pair.relay("euler", torch.tensor(levels)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_keyframes_start_anew_after_a_run_that_was_cancelled_in_its_first_step() -> None:
    pair = Pair()
    put_on(pair, hook_lora(keys((0, 0), (1, 0.05))))
    sigmas = pair.sigmas(4)
    expected = pair.relay("euler", sigmas)

    def cancel(*_: Any) -> None:
        comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(pair.guider(), "euler", sigmas, callback=cancel)
    assert torch.equal(pair.relay("euler", sigmas), expected)


@pytest.mark.parametrize("hooked", ["no prompt", "the positive prompt", "both prompts"])
def test_the_way_hooks_are_kept_in_memory_is_each_models_own_again_after_a_run(hooked: str) -> None:
    """ComfyUI keeps no copies of hooked weights (MinVram) where all prompts have the same hooks."""
    kinds = comfy.hooks.EnumHookMode
    pair = Pair()
    if hooked != "no prompt":
        put_on(pair, hook_lora(keys((1, 0), (0.5, 0.05))), negative=hooked == "both prompts")
    during: dict[str, Any] = {}
    for name in ("high", "low"):
        model = getattr(pair, name)

        def keep(executor: Any, *args: Any, name: str = name, model: Any = model, **options: Any) -> torch.Tensor:
            during[name] = model.hook_mode
            return executor(*args, **options)

        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "keep", keep)
        model.set_hook_mode(kinds.MaxSpeed)
    pair.relay("euler", pair.sigmas(4), cfg=3.0)
    expected = kinds.MaxSpeed if hooked == "the positive prompt" else kinds.MinVram
    assert during == {"high": expected, "low": expected}
    assert [model.hook_mode for model in (pair.high, pair.low)] == [kinds.MaxSpeed] * 2


def test_nothing_of_a_hook_stays_on_the_weights() -> None:
    pair = Pair()
    before = [patched_weight(model).clone() for model in (pair.high, pair.low)]
    plain = pair.relay("euler", pair.sigmas(4))
    unhooked = pair.positive
    put_on(pair, hook_lora(keys((1, 0), (0.5, 0.05))))
    assert largest_difference(pair.relay("euler", pair.sigmas(4)), plain) > 1e-3
    pair.positive = unhooked
    assert torch.equal(pair.relay("euler", pair.sigmas(4)), plain)
    for model, weight in zip((pair.high, pair.low), before, strict=True):
        assert torch.equal(patched_weight(model), weight)
        assert (model.hook_patches, model.hook_backup, model.cached_hook_patches) == ({}, {}, {})
