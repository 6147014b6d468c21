"""NAG: the paper's formula in the cross-attention, on the positive rows, at cfg 1, and nothing of it left behind."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.wan.model
import comfy.ops
import comfy.patcher_extension
import comfy.sd
import numpy as np
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_context_windows import WanContextWindowsManualNode
from comfy_extras.nodes_custom_sampler import CFGOverride
from comfy_extras.nodes_nag import NAGuidance
from wan_relay.nodes.apply_nag import ApplyNag
from wan_relay.nodes.engine.relay.attention_guidance import apply_nag, guide_attention, nag_warnings
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.tests.engine.relay.relay_runs import LATENT_SHAPE, Pair, alone, largest_difference, run
from wan_relay.tests.engine.tiny_wan import TEXT_DIM, conditioning, tiny_wan

pytestmark = pytest.mark.comfy

SAME = 1e-5  # of what NAG changes, a hundredth and less
AWAY_FROM = conditioning(9, image=False)
SCALE, ALPHA, TAU = 11.0, 0.25, 2.37


def with_nag(model: Any, negative: list = AWAY_FROM, end_sigma: float = 0.0) -> Any:
    return apply_nag(model, negative, SCALE, ALPHA, TAU, end_sigma, "high_noise")[0]


@pytest.fixture
def pair() -> Any:
    return Pair()


def formula(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """The paper's equations, row by row in float64: extrapolate, hold the L1 norm below tau times, blend."""
    result = np.empty_like(positive)
    for index in np.ndindex(positive.shape[:-1]):
        z, away = positive[index], negative[index]
        guided = z + (SCALE - 1) * (z - away)
        ratio = np.abs(guided).sum() / np.abs(z).sum()
        result[index] = ALPHA * guided * min(ratio, TAU) / ratio + (1 - ALPHA) * z
    return result


@pytest.mark.parametrize("distance", [0.01, 0.1, 2.0])
def test_the_formula(distance: float) -> None:
    generator = torch.Generator().manual_seed(3)
    positive = torch.randn(2, 7, 64, generator=generator)
    negative = positive + distance * torch.randn(2, 7, 64, generator=generator)
    expected = formula(positive.double().numpy(), negative.double().numpy())
    kept = positive.clone()
    guided = guide_attention(positive, negative.clone(), SCALE, ALPHA, TAU)
    np.testing.assert_allclose(guided.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(positive, kept)
    half = guide_attention(positive.bfloat16(), negative.bfloat16(), SCALE, ALPHA, TAU)
    assert half.dtype == torch.bfloat16
    assert guide_attention(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), SCALE, ALPHA, TAU).tolist() == [[[0.0] * 4] * 2]


@contextmanager
def by_hand(model: Any, negative: list) -> Iterator[None]:
    """NAG put into a network from outside: what goes into each cross-attention's last layer is replaced by the formula
    over attention that is written out here in float64."""
    network = model.model.diffusion_model
    text = network.text_embedding
    queries: dict[int, np.ndarray] = {}
    handles = []

    def linear(layer: Any, x: np.ndarray) -> np.ndarray:
        return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()

    def keys_of(attention: Any) -> tuple[np.ndarray, np.ndarray]:
        embedded = linear(
            text[2],
            torch.nn.functional.gelu(
                torch.from_numpy(linear(text[0], negative[0][0][0].double().numpy())), approximate="tanh"
            ).numpy(),
        )
        k, v = linear(attention.k, embedded), linear(attention.v, embedded)
        k = (
            k
            / np.sqrt((k**2).mean(-1, keepdims=True) + attention.eps)
            * attention.norm_k.weight.detach().double().numpy()
        )
        return k, v

    def replace(block: int) -> Callable:
        def hook(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            attention, q = network.blocks[block].cross_attn, queries[block]
            k, v = keys_of(attention)
            heads, width = attention.num_heads, attention.head_dim
            away = np.empty_like(q)
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                scores = q[..., part] @ k[:, part].T / np.sqrt(width)
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                away[..., part] = weights / weights.sum(-1, keepdims=True) @ v[:, part]
            return (torch.from_numpy(formula(args[0].double().numpy(), away)).to(args[0]),)

        return hook

    for index, block in enumerate(network.blocks):
        keep = lambda _, __, out, index=index: queries.__setitem__(index, out.double().numpy())  # noqa: E731
        handles.append(block.cross_attn.norm_q.register_forward_hook(keep))
        handles.append(block.cross_attn.o.register_forward_pre_hook(replace(index)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", ["i2v", "t2v"])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_run_equals_an_implementation_of_its_own(kind: str, batch: int) -> None:
    pair = Pair(kind=kind)
    if kind == "t2v":
        pair.positive, pair.negative = conditioning(3, image=False), conditioning(4, image=False)
    latent, sigmas = torch.zeros(batch, *LATENT_SHAPE[1:]), pair.sigmas(4)
    plain = pair.relay("euler", sigmas, latent)
    with by_hand(pair.high, AWAY_FROM), by_hand(pair.low, AWAY_FROM):
        expected = pair.relay("euler", sigmas, latent)
    pair.high, pair.low = with_nag(pair.high), with_nag(pair.low)
    relay = pair.relay("euler", sigmas, latent)
    assert largest_difference(relay, expected) < SAME * float(expected.std())
    assert largest_difference(relay, plain) > 1e-3 * float(plain.std())


def test_several_heads_and_blocks() -> None:
    """Two blocks of two heads: the norms are over all heads together, and every block is guided."""
    network = comfy.ldm.wan.model.WanModel(
        in_dim=16, dim=256, ffn_dim=64, text_dim=TEXT_DIM, num_heads=2, num_layers=2, dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    weights = {
        key: torch.randn(value.shape, generator=generator) / max(value[0].numel(), 1) ** 0.5
        for key, value in network.state_dict().items()
    }
    metadata = {"config": json.dumps({"transformer": {"text_dim": TEXT_DIM}})}
    model = with_shift(comfy.sd.load_diffusion_model_state_dict(weights, metadata=metadata), 5.0)
    pair = Pair(kind="t2v")
    pair.high, pair.positive, pair.negative = model, conditioning(3, image=False), conditioning(4, image=False)
    sigmas = pair.sigmas(2)
    with by_hand(model, AWAY_FROM):
        expected = run(alone(pair), "euler", sigmas)
    pair.high = with_nag(model)
    assert largest_difference(run(alone(pair), "euler", sigmas), expected) < SAME * float(expected.std())


@pytest.mark.parametrize("names", [("high",), ("low",), ("high", "low")])
def test_each_expert_has_its_own_as_in_two_chained_samplers(pair: Any, names: tuple[str, ...]) -> None:
    plain = pair.relay("euler", pair.sigmas(8))
    for name in names:
        setattr(pair, name, with_nag(getattr(pair, name)))
    relay = pair.relay("euler", pair.sigmas(8))
    assert largest_difference(relay, pair.chain("euler", pair.sigmas(8), 3)) < SAME * float(relay.std())
    assert largest_difference(relay, plain) > 1e-3 * float(relay.std())


def test_only_the_positive_rows_are_guided(pair: Any) -> None:
    """At cfg 1 without ComfyUI's shortcut both prompts run in one batch, the negative one first."""
    chunks: list[list[int]] = []

    def keep(apply: Any, args: dict) -> torch.Tensor:
        chunks.append(args["cond_or_uncond"])
        return apply(args["input"], args["timestep"], **args["c"])

    latent = torch.zeros(2, *LATENT_SHAPE[1:])
    for name in ("high", "low"):
        setattr(pair, name, with_nag(getattr(pair, name)))
    expected = pair.relay("euler", pair.sigmas(4), latent)
    for name in ("high", "low"):
        model = getattr(pair, name).clone()
        model.disable_model_cfg1_optimization()
        model.set_model_unet_function_wrapper(keep)
        setattr(pair, name, model)
    relay = pair.relay("euler", pair.sigmas(4), latent)
    assert chunks == [[1, 0]] * 4
    assert largest_difference(relay, expected) < SAME * float(relay.std())
    pair.negative = conditioning(11)
    assert largest_difference(relay, pair.relay("euler", pair.sigmas(4), latent)) < SAME * float(relay.std())


def test_it_is_off_where_an_experts_cfg_is_not_1(pair: Any) -> None:
    plain, sigmas = pair.guider(), pair.sigmas(4)
    plain.set_cfg(3.5, 1.0)
    expected = run(plain, "euler", sigmas)
    pair.high = with_nag(pair.high)
    guider = pair.guider()
    guider.set_cfg(3.5, 1.0)
    assert torch.equal(run(guider, "euler", sigmas), expected)
    assert nag_warnings(pair.high, 3.5, "high_noise") == [
        "NAG acts at cfg 1 only: it is off for high_noise, whose cfg is 3.5."
    ]
    assert nag_warnings(pair.high, 1.0, "high_noise") == nag_warnings(pair.low, 3.5, "low_noise") == []


@pytest.mark.parametrize("nag_first", [False, True])
def test_a_cfg_that_another_node_overrides_counts(pair: Any, nag_first: bool) -> None:
    """CFG Override 3.5 in the first of two high-noise steps: NAG acts in the second, whichever node comes first."""

    def override(model: Any) -> Any:
        return CFGOverride.execute(model, 3.5, 0.0, 0.1).result[0]

    embedded: list[float] = []
    plain = pair.high
    pair.high = override(with_nag(plain)) if nag_first else with_nag(override(plain))
    text = plain.model.diffusion_model.text_embedding
    handle = text.register_forward_hook(lambda *_: embedded.append(pair.asked[-1][1]))
    relay = pair.relay("euler", pair.sigmas(4))
    handle.remove()
    assert embedded == [1.0, 0.9375, 0.9375]
    pair.high = override(plain)
    first_step_only = pair.relay("euler", pair.sigmas(4))
    assert largest_difference(relay, first_step_only) > 1e-3 * float(relay.std())


def test_below_its_end_it_is_off(pair: Any) -> None:
    plain, sigmas = pair.relay("euler", pair.sigmas(4)), pair.sigmas(4)
    high, low = pair.high, pair.low
    pair.high, pair.low = with_nag(high, end_sigma=0.95), with_nag(low, end_sigma=0.95)
    first_only = pair.relay("euler", sigmas)
    pair.high, pair.low = with_nag(high, end_sigma=0.95), low
    assert torch.equal(pair.relay("euler", sigmas), first_only)
    assert not torch.equal(first_only, plain)
    pair.high, pair.low = high, with_nag(low, end_sigma=0.9)
    assert torch.equal(pair.relay("euler", sigmas), plain)


def test_the_negative_prompt_is_embedded_once_by_each_expert(pair: Any) -> None:
    counts = {"high": 0, "low": 0}
    for name in counts:
        model = getattr(pair, name)

        def count(*_: Any, name: str = name) -> None:
            counts[name] += 1

        model.model.diffusion_model.text_embedding.register_forward_hook(count)
        setattr(pair, name, with_nag(model))
    for runs in (1, 2):
        pair.relay("euler", pair.sigmas(6))
        steps = pair.guider().make_route(pair.sigmas(6).tolist())
        assert counts == {"high": runs * (steps.steps_of(0) + 1), "low": runs * (steps.steps_of(1) + 1)}


@pytest.mark.parametrize("name", ["high", "low"])
def test_context_windows(pair: Any, name: str) -> None:
    for each in ("high", "low"):
        model = getattr(pair, each)
        if each == name:
            model = with_nag(model)
        windows = WanContextWindowsManualNode.execute(
            model, 5, 0, "standard_static", 1, closed_loop=False, fuse_method="pyramid", freenoise=False
        ).result[0]
        setattr(pair, each, windows)
    relay = pair.relay("euler", pair.sigmas(4))
    assert largest_difference(relay, pair.chain("euler", pair.sigmas(4), 2)) < SAME * float(relay.std())


def test_torch_compile(pair: Any) -> None:
    pair.high = with_nag(pair.high)
    plain = pair.relay("euler", pair.sigmas(4))
    pair.high = pair.high.clone()
    set_torch_compile_wrapper(pair.high, backend="eager", keys=["diffusion_model.blocks.0"])
    torch.testing.assert_close(pair.relay("euler", pair.sigmas(4)), plain, rtol=1e-4, atol=1e-4)


def test_a_clone_for_another_gpu_asks_its_own_network(pair: Any) -> None:
    """ComfyUI gives each GPU a clone of the MODEL over a network of its own (`match_multigpu_clones`)."""
    other = pair.low.model
    clone = with_nag(pair.high).clone(model_override=(other, ({}, {}, {}, set())))
    expected = with_nag(pair.low)
    sigmas, results = pair.sigmas(2), []
    for model in (clone, expected):
        pair.high = model
        results.append(run(alone(pair), "euler", sigmas))
    assert torch.equal(*results)


def test_nothing_stays_on_what_clones_share(pair: Any) -> None:
    """The same network without NAG before, between and after runs with it, as another clone and as a low-noise one."""
    plain, sigmas = pair.relay("euler", pair.sigmas(4)), pair.sigmas(4)
    high = pair.high
    pair.high = with_nag(high)
    guided = pair.relay("euler", sigmas)
    assert "nag" not in repr(high.model_options) + repr(pair.high.model_options)
    pair.high = high
    assert torch.equal(pair.relay("euler", sigmas), plain)
    pair.high = with_nag(high)
    assert torch.equal(pair.relay("euler", sigmas), guided)
    pair.low = high.clone()
    both = pair.relay("euler", sigmas)
    pair.low = pair._recorded("low", with_shift(tiny_wan(seed=1), 5.0))
    torch.testing.assert_close(pair.relay("euler", sigmas), both, rtol=1e-5, atol=1e-5)


def test_the_last_one_counts(pair: Any) -> None:
    once, other = with_nag(pair.high), apply_nag(pair.high, conditioning(12), 4.0, 0.5, 2.0, 0.0, "high_noise")[0]
    pair.high = once
    expected = pair.relay("euler", pair.sigmas(4))
    pair.high = with_nag(other)
    assert torch.equal(pair.relay("euler", pair.sigmas(4)), expected)


def test_a_scale_that_guides_nowhere_changes_nothing(pair: Any) -> None:
    for scale in (0.0, 1.0):
        output = ApplyNag.execute(pair.high, AWAY_FROM, scale, ALPHA, TAU, low_noise=pair.low)
        assert (output.args[0] is pair.high, output.args[1] is pair.low) == (True, True)


def test_what_the_node_says(pair: Any) -> None:
    output = ApplyNag.execute(pair.high, AWAY_FROM, SCALE, ALPHA, TAU)
    assert (output.args[1], output.ui["wan_relay"]) == (None, [{"warnings": []}])
    foreign = pair.low.clone()
    foreign.add_object_patch("diffusion_model.blocks.0.cross_attn.forward", lambda x, context, **_: x)
    output = ApplyNag.execute(pair.high, AWAY_FROM * 2, SCALE, ALPHA, TAU, low_noise=foreign)
    assert output.ui["wan_relay"][0]["warnings"] == [
        "negative holds 2 prompts; NAG uses the first, over the whole run.",
        "Another node has patched the cross-attention of low_noise; Apply NAG takes its place.",
    ]
    foreign.model.diffusion_model, kept = torch.nn.Linear(1, 1), foreign.model.diffusion_model
    with pytest.raises(InvalidInput, match=r"low_noise must be a Wan2\.2 model, and this one is"):
        ApplyNag.execute(pair.high, AWAY_FROM, SCALE, ALPHA, TAU, low_noise=foreign)
    foreign.model.diffusion_model = kept


def test_comfyuis_own_node_is_warned_of_because_it_does_nothing_on_wan(pair: Any) -> None:
    plain = pair.relay("euler", pair.sigmas(4))
    calls = len(pair.asked)
    pair.high = NAGuidance.execute(pair.high, 11.0, 0.25, 2.37).result[0]
    assert largest_difference(pair.relay("euler", pair.sigmas(4)), plain) < SAME * float(plain.std())
    assert len(pair.asked) == calls  # one call a step still, of twice the batch
    (sentence,) = nag_warnings(pair.high, 1.0, "high_noise")
    assert sentence.startswith("ComfyUI's NAGuidance on high_noise has no effect on Wan and doubles the time at cfg 1")
    assert nag_warnings(pair.low, 1.0, "low_noise") == []
    assert comfy.patcher_extension.WrappersMP.OUTER_SAMPLE not in pair.high.wrappers
