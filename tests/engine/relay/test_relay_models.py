"""Everything attached to a MODEL keeps working, for the expert that it is attached to, and nothing is left behind."""

import gc
import weakref
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.patcher_extension
import pytest
import torch
from comfy.samplers import KSAMPLER
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras import nodes_easycache
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode
from comfy_extras.nodes_custom_sampler import CFGOverride
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.tests.engine.relay.relay_runs import RISING, Pair, alone, largest_difference, run, twins
from wan_relay.tests.engine.tiny_wan import LATENT_SHAPE, tiny_wan

pytestmark = pytest.mark.comfy


@pytest.fixture
def pair() -> Any:
    return Pair()


def chain_difference(pair: Any, cfg: float = 1.0) -> float:
    """Largest difference to two chained samplers over Euler, relative to the result."""
    sigmas = pair.sigmas(4)
    relay = pair.relay("euler", sigmas, cfg=cfg)
    return largest_difference(relay, pair.chain("euler", sigmas, 2, cfg)) / float(relay.std())


SAME = 2e-5


def lora_for(model: Any, seed: int) -> dict[str, tuple[torch.Tensor]]:
    key = "diffusion_model.blocks.0.ffn.0.weight"
    shape = model.model.diffusion_model.blocks[0].ffn[0].weight.shape
    return {key: (0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)),)}


@pytest.mark.parametrize("name", ["high", "low"])
def test_weight_patches(pair: Any, name: str) -> None:
    plain = pair.relay("euler", pair.sigmas(4))
    model = getattr(pair, name).clone()
    assert model.add_patches(lora_for(model, 9), 1.0)
    setattr(pair, name, model)
    assert largest_difference(pair.relay("euler", pair.sigmas(4)), plain) > 1e-3
    assert chain_difference(pair) < SAME


def test_the_negative_pass_is_skipped_for_the_expert_with_cfg_1(pair: Any) -> None:
    for high_cfg, low_cfg in ((3.5, 1.0), (1.0, 3.5)):
        batches: list[tuple[str, int]] = []

        def count(apply: Any, args: dict, batches: list = batches) -> torch.Tensor:
            expert = "high" if float(args["timestep"][0]) > 0.9 else "low"
            batches.append((expert, len(args["cond_or_uncond"])))
            return apply(args["input"], args["timestep"], **args["c"])

        for name in ("high", "low"):
            setattr(pair, name, getattr(pair, name).clone())
            getattr(pair, name).set_model_unet_function_wrapper(count)
        guider = pair.guider()
        guider.set_cfg(high_cfg, low_cfg)

        run(guider, "euler", pair.sigmas(4))
        passes = {name: sum(size for expert, size in batches if expert == name) for name in ("high", "low")}
        assert passes == {"high": 4 if high_cfg > 1 else 2, "low": 4 if low_cfg > 1 else 2}


@pytest.mark.parametrize("name", ["high", "low"])
@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp"])
def test_cfg_functions_run_for_their_expert_beside_the_samplers_own(pair: Any, name: str, sampler: str) -> None:
    called: list[float] = []

    def post_cfg(args: dict) -> torch.Tensor:
        called.append(round(float(args["sigma"][0]), 3))
        return args["denoised"] * 0.9

    plain = pair.relay(sampler, pair.sigmas(4))
    model = getattr(pair, name).clone()
    model.set_model_sampler_post_cfg_function(post_cfg)
    setattr(pair, name, model)
    changed = pair.relay(sampler, pair.sigmas(4))
    assert called == ([1.0, 0.938] if name == "high" else [0.833, 0.625])
    assert not torch.equal(changed, plain)

    assert largest_difference(changed, pair.chain(sampler, pair.sigmas(4), 2)) < SAME * float(changed.std())


class CountedAttention:
    """An attention override that keeps the shape of every q. Newer ComfyUI has q, k and v in containers, which it
    gives to `container_function` where an override has one."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, attention: Any, q: Any, *args: Any, **options: Any) -> torch.Tensor:
        self.shapes.append(tuple((q.peek() if hasattr(q, "peek") else q).shape))
        return attention(q, *args, **options)

    def container_function(self, *args: Any, **options: Any) -> torch.Tensor:
        return self(comfy.ldm.modules.attention.optimized_attention, *args, **options)


@pytest.mark.parametrize("name", ["high", "low"])
def test_block_replacements_and_attention_overrides(pair: Any, name: str) -> None:
    called: list[float] = []

    def block(args: dict, extra: dict) -> dict:
        called.append(round(float(args["transformer_options"]["sigmas"][0]), 3))
        return extra["original_block"](args)

    model = getattr(pair, name).clone()
    model.set_model_patch_replace(block, "dit", "double_block", 0)

    attention = CountedAttention()
    model.model_options["transformer_options"]["optimized_attention_override"] = attention
    setattr(pair, name, model)
    pair.relay("euler", pair.sigmas(4))
    assert called == ([1.0, 0.938] if name == "high" else [0.833, 0.625])
    assert attention.shapes == [(1, 12, 128)] * 4  # self- and cross-attention, two steps


@pytest.mark.parametrize("name", ["high", "low"])
@pytest.mark.parametrize("node", ["EasyCacheNode", "LazyCacheNode"])
def test_core_nodes_that_wrap_the_guider_see_their_own_expert(pair: Any, node: str, name: str) -> None:
    cached = getattr(nodes_easycache, node).execute(getattr(pair, name), 0.2, 0.0, 1.0, False).result[0]
    setattr(pair, name, CFGOverride.execute(cached, 2.0, 0.0, 1.0).result[0])
    assert chain_difference(pair) < SAME
    assert chain_difference(pair, cfg=3.0) < SAME


def test_outer_wrappers_of_both_experts_run_once_around_the_run(pair: Any) -> None:
    seen: list[tuple[str, bool]] = []

    def outer(name: str) -> Any:
        def wrapper(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            seen.append((name, executor.class_obj.model_patcher is getattr(pair, name)))
            return executor(*args, **kwargs)

        return wrapper

    for name in ("high", "low"):
        model = getattr(pair, name)
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "test", outer(name))
    pair.relay("euler", pair.sigmas(4))
    assert seen == [("high", True), ("low", True)]


@pytest.mark.parametrize(
    ("keys", "ran"),
    [
        ({"high": "a"}, ["high"]),
        ({"low": "a"}, ["low"]),
        ({"high": "a", "low": "b"}, ["high", "low"]),
        ({"high": "a", "low": "a"}, ["high"]),
    ],
)
def test_wrappers_around_the_sampler_run_once_for_one_sampler_run(
    pair: Any, keys: dict[str, str], ran: list[str]
) -> None:
    seen: list[str] = []

    def around(name: str) -> Any:
        def wrapper(executor: Any, guider: Any, sigmas: Any, extra_args: dict, *args: Any) -> torch.Tensor:
            assert extra_args["model_options"]["mark"] == name
            assert guider.model_patcher is getattr(pair, name)
            seen.append(name)
            noise = 1.5 * args[1]
            return executor(guider, sigmas, extra_args, args[0], noise, *args[2:])

        return wrapper

    plain = pair.relay("euler", pair.sigmas(4))
    for name, key in keys.items():
        model = getattr(pair, name)
        model.model_options["mark"] = name
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, key, around(name))
    assert not torch.equal(pair.relay("euler", pair.sigmas(4)), plain)
    assert seen == ran


@pytest.mark.parametrize("names", [("high",), ("low",), ("high", "low")])
@pytest.mark.parametrize("freenoise", [False, True])
def test_context_windows(pair: Any, names: tuple[str, ...], freenoise: bool) -> None:
    """Windows of 5 frames (2 latent frames) over 3 latent frames, for one expert or both."""
    plain = pair.relay("euler", pair.sigmas(4))
    for name in names:
        windows = WanContextWindowsManualNode.execute(
            getattr(pair, name),
            context_length=5,
            context_overlap=0,
            context_schedule="standard_static",
            context_stride=1,
            closed_loop=False,
            fuse_method="pyramid",
            freenoise=freenoise,
        ).result[0]
        setattr(pair, name, windows)
    windowed = pair.relay("euler", pair.sigmas(4))
    assert torch.isfinite(windowed).all()
    assert largest_difference(windowed, plain) > 1e-3
    assert len([name for name, _ in pair.asked if name == "high"]) == (4 if "high" in names else 2)
    if not freenoise or names == ("high", "low"):
        assert chain_difference(pair) < SAME


@pytest.mark.parametrize("levels", [[1.0, 0.95, 0.85, 0.5, 0.0], [1.0, 0.92, 0.85, 0.99, 0.5, 0.0]])
@pytest.mark.parametrize("sampler", ["euler", "dpm_2"])
def test_context_windows_that_move_with_the_steps(sampler: str, levels: list[float]) -> None:
    """dpm_2 looks inside each step, and changes the expert there, at 0.899, and 0.917 on the way up. Its windows there
    are those of the step's start."""
    pair = twins()
    for name in ("high", "low"):
        windows = WanContextWindowsManualNode.execute(
            getattr(pair, name), 5, 0, "looped_uniform", 2, closed_loop=False, fuse_method="pyramid", freenoise=False
        ).result[0]
        setattr(pair, name, windows)
    sigmas = torch.tensor(levels)
    relay = pair.relay(sampler, sigmas)
    assert {name for name, _ in pair.asked} == {"high", "low"}
    assert torch.equal(relay, run(alone(pair), sampler, sigmas))


def test_torch_compile_wrappers(pair: Any) -> None:
    plain = pair.relay("euler", pair.sigmas(4))
    for name in ("high", "low"):
        model = getattr(pair, name).clone()
        set_torch_compile_wrapper(model, backend="eager", keys=["diffusion_model.blocks.0.ffn"])
        setattr(pair, name, model)
    torch.testing.assert_close(pair.relay("euler", pair.sigmas(4)), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigmas", [[1.0, 0.95, 0.8, 0.5, 0.0], RISING])
def test_two_clones_of_one_model_with_different_patches(pair: Any, sigmas: list[float]) -> None:
    """One base model with a LoRA for each part is one set of weights, patched anew whenever the expert changes."""
    base, twin = pair.high, pair._recorded("low", with_shift(tiny_wan(seed=1), 5.0))
    results = []
    for models in ((base.clone(), base.clone()), (base.clone(), twin.clone())):
        for seed, model in enumerate(models):
            model.add_patches(lora_for(model, seed), 1.0)
        pair.high, pair.low = models
        results.append(pair.relay("euler", torch.tensor(sigmas)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_both_experts_get_the_same_inputs_for_their_conditioning(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, dict] = {}
    for name in ("high", "low"):
        network = getattr(pair, name).model

        def keep(name: str = name, network: Any = network, own: Any = network.extra_conds, **options: Any) -> dict:
            given.setdefault(name, options | {"shapes on the model": getattr(network, "latent_shapes", None)})
            return own(**options)

        monkeypatch.setattr(network, "extra_conds", keep)
    latent = torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 1, *LATENT_SHAPE[2:])
    run(pair.guider(), "euler", pair.sigmas(4), latent=latent, mask=mask)
    for key in ("noise", "latent_image", "denoise_mask"):
        assert torch.equal(given["high"][key], given["low"][key]), key
    assert given["high"].keys() == given["low"].keys()
    assert (given["low"]["seed"], given["low"]["width"]) == (5, given["high"]["width"])
    assert given["low"]["latent_shapes"] == given["low"]["shapes on the model"] == [LATENT_SHAPE]


@pytest.mark.parametrize("empty", [False, True])
def test_a_sampler_that_writes_into_what_it_is_given_changes_nothing_for_others(
    pair: Any, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """Neither for the expert that joins after it, nor for the caller, whose tensors ComfyUI keeps for the next run."""
    generator = torch.Generator().manual_seed(1)
    noise, latent = (torch.randn(LATENT_SHAPE, generator=generator) for _ in range(2))
    latent = torch.zeros(LATENT_SHAPE) if empty else latent
    mask, sigmas = torch.rand(LATENT_SHAPE, generator=generator), pair.sigmas(4)
    given = {"noise": noise, "latent_image": latent, "denoise_mask": mask, "sigmas": sigmas}
    before = {name: tensor.clone() for name, tensor in given.items()}
    joined: dict[str, torch.Tensor] = {}
    network = pair.low.model

    def keep(own: Any = network.extra_conds, **options: Any) -> dict:
        joined.update({name: options[name].clone() for name in ("noise", "latent_image", "denoise_mask")})
        return own(**options)

    def scribble(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, **_: Any) -> torch.Tensor:
        for sigma in sigmas.tolist()[:-1]:
            x = model(x, x.new_full((1,), sigma), **extra_args)
            for tensor in (model.noise, model.latent_image, extra_args["denoise_mask"], sigmas):
                tensor.fill_(7.0)
        return x

    monkeypatch.setattr(network, "extra_conds", keep)
    with torch.inference_mode():
        pair.guider().sample(noise, latent, KSAMPLER(scribble), sigmas, denoise_mask=mask, disable_pbar=True)
    assert [name for name, _ in pair.asked] == ["high", "high", "low", "low"]
    assert {name: torch.equal(tensor, before[name]) for name, tensor in given.items()} == dict.fromkeys(given, True)
    if not empty:  # ComfyUI leaves an empty latent as it is
        before["latent_image"] = network.process_latent_in(before["latent_image"])
    assert {name: torch.equal(tensor, before[name]) for name, tensor in joined.items()} == dict.fromkeys(joined, True)


def test_nothing_is_kept_after_a_run(pair: Any) -> None:
    guider = pair.guider()

    run(guider, "euler", pair.sigmas(4))
    assert (guider.inner_model, guider.conds, guider.waiting, guider.baton) == (None, None, {}, None)
    assert pair.high.model.current_patcher is None
    assert pair.low.model.current_patcher is None
    alive = [weakref.ref(pair.high.model), weakref.ref(pair.low.model)]
    del guider
    comfy.model_management.unload_all_models()
    pair.high = pair.low = None
    gc.collect()
    assert [ref() for ref in alive] == [None, None]
