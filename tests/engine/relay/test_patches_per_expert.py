"""What core nodes attach to a MODEL acts on that expert's steps alone, exactly as in two chained samplers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_cfg import CFGNorm, CFGZeroStar
from comfy_extras.nodes_custom_sampler import CFGOverride
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT
from comfy_extras.nodes_tcfg import TCFG
from node_helpers import conditioning_set_values
from wan_relay.tests.engine.relay.relay_runs import Pair, largest_difference
from wan_relay.tests.engine.tiny_wan import conditioning

pytestmark = pytest.mark.comfy

SAME = 1e-5
STEPS, N_HIGH = 8, 3


def cross_attention_patch(model: Any) -> Any:
    """Replaces a block's cross-attention, as node packs for NAG do."""
    patched = model.clone()
    module = model.get_model_object("diffusion_model.blocks.0.cross_attn")
    plain = type(module).forward.__get__(module)  # its own, also while another clone's patch is on it

    def forward(x: torch.Tensor, context: torch.Tensor, **options: Any) -> torch.Tensor:
        return 5.0 * plain(x, context, **options) - 4.0 * plain(x, 0.5 * context, **options)

    patched.add_object_patch("diffusion_model.blocks.0.cross_attn.forward", forward)
    return patched


PATCHES: dict[str, Callable[[Any], Any]] = {
    "SkipLayerGuidanceDiT": lambda model: SkipLayerGuidanceDiT.execute(model, 3.0, 0.0, 1.0, "0", "").result[0],
    "SkipLayerGuidanceDiT in the middle": lambda model: SkipLayerGuidanceDiT.execute(
        model, 3.0, 0.2, 0.6, "0", "", 0.5
    ).result[0],
    "CFGZeroStar": lambda model: CFGZeroStar.execute(model).result[0],
    "CFGNorm": lambda model: CFGNorm.execute(model, 0.9).result[0],
    "CFGNorm before cfg": lambda model: CFGNorm.execute(model, 0.9, True).result[0],
    "TCFG": lambda model: TCFG.execute(model).result[0],
    "APG": lambda model: APG.execute(model, 0.5, 5.0, 0.0).result[0],
    "APG with momentum": lambda model: APG.execute(model, 0.5, 5.0, -0.5).result[0],
    "CFGOverride in the middle": lambda model: CFGOverride.execute(model, 6.0, 0.2, 0.6).result[0],
    "EasyCache": lambda model: EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False).result[0],
    "LazyCache": lambda model: LazyCacheNode.execute(model, 3.0, 0.0, 1.0, False).result[0],
    "cross-attention": cross_attention_patch,
}


def check_as_chained(pair: Any, plain: torch.Tensor) -> None:
    sigmas = pair.sigmas(STEPS)
    relay, chain = pair.relay("euler", sigmas, cfg=3.0), pair.chain("euler", sigmas, N_HIGH, cfg=3.0)
    assert largest_difference(relay, chain) < SAME * float(relay.std())
    assert largest_difference(relay, plain) > 1e-3 * float(relay.std())


@pytest.fixture(scope="module")
def plain() -> torch.Tensor:
    """The relay with nothing attached."""
    pair = Pair()
    return pair.relay("euler", pair.sigmas(STEPS), cfg=3.0)


@pytest.mark.parametrize("names", [("high",), ("low",), ("high", "low")])
@pytest.mark.parametrize("patch", PATCHES)
def test_patches_on_one_expert_or_both(plain: torch.Tensor, patch: str, names: tuple[str, ...]) -> None:
    pair = Pair()
    for name in names:
        setattr(pair, name, PATCHES[patch](getattr(pair, name)))
    check_as_chained(pair, plain)


@pytest.mark.parametrize("end_percent", [0.2, 0.375, 0.7])
def test_prompts_limited_to_a_part_of_the_schedule(plain: torch.Tensor, end_percent: float) -> None:
    """The switch is at 0.375: one prompt gives way to the next before it, at it, and after it."""
    pair = Pair()
    for name, seeds in (("positive", (3, 5)), ("negative", (4, 6))):
        first, second = (conditioning(seed) for seed in seeds)
        prompts = conditioning_set_values(first, {"start_percent": 0.0, "end_percent": end_percent})
        prompts += conditioning_set_values(second, {"start_percent": end_percent, "end_percent": 1.0})
        setattr(pair, name, prompts)
    check_as_chained(pair, plain)
