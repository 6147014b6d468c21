"""What ComfyUI offers to make a MODEL faster acts on the expert that it is attached to, and changes no other step.

Caches (EasyCache, LazyCache) are in test_patches_per_expert.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.sd
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_multigpu import SelectModelDeviceNode, _apply_patcher_device, _retarget_patcher
from safetensors.torch import save_file
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.nodes.engine.relay.waiting_expert import WaitingExpert
from wan_relay.tests.engine.relay.relay_runs import Pair, largest_difference
from wan_relay.tests.engine.tiny_wan import TEXT_DIM, tiny_wan

pytestmark = pytest.mark.comfy

STEPS, N_HIGH = 4, 2
SAME = 1e-5


def coarse_attention(calls: list[float]) -> Callable[..., torch.Tensor]:
    """Attention with few bits: it stands in for kernels such as SageAttention's, which need a GPU."""

    def attend(function: Callable[..., torch.Tensor], *given: Any, **options: Any) -> torch.Tensor:
        calls.append(float(options["transformer_options"]["sigmas"][0]))
        return function(*(tensor.round(decimals=1) for tensor in given[:3]), *given[3:], **options)

    return attend


def set_attention(model: Any, attend: Callable[..., torch.Tensor]) -> Any:
    """As core's and other packs' nodes choose an attention for one MODEL, block-sparse ones included."""
    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = attend
    return model


@pytest.mark.parametrize("names", [("high",), ("low",), ("high", "low")])
def test_an_attention_is_that_of_its_expert(names: tuple[str, ...]) -> None:
    pair, calls = Pair(), list[float]()
    sigmas = pair.sigmas(STEPS)
    plain = pair.relay("euler", sigmas)
    for name in names:
        setattr(pair, name, set_attention(getattr(pair, name), coarse_attention(calls)))
    relay = pair.relay("euler", sigmas)
    expected = [sigma for name, part in (("high", sigmas[:N_HIGH]), ("low", sigmas[N_HIGH:-1]))
                if name in names for sigma in part.tolist() for _ in range(2)]  # fmt: skip
    assert calls == pytest.approx(expected)  # self- and cross-attention of the one block
    assert largest_difference(relay, pair.chain("euler", sigmas, N_HIGH)) < SAME * float(relay.std())
    assert largest_difference(relay, plain) > 1e-4 * float(relay.std())


@pytest.mark.parametrize("name", [None, "split", "sub_quad", "pytorch"])
def test_core_attentions_give_the_same_video(name: str | None) -> None:
    pair = Pair()
    sigmas = pair.sigmas(STEPS)
    plain = pair.relay("euler", sigmas)
    chosen = comfy.ldm.modules.attention.get_attention_function(name, comfy.ldm.modules.attention.attention_basic)
    pair.high = set_attention(pair.high, lambda function, *given, **options: chosen(*given, **options))
    assert largest_difference(pair.relay("euler", sigmas), plain) < 1e-4 * float(plain.std())


@pytest.mark.parametrize("name", ["high", "low"])
def test_a_compiled_block_is_that_of_its_expert(name: str) -> None:
    pair, runs = Pair(), list[str]()
    sigmas = pair.sigmas(STEPS)
    plain = pair.relay("euler", sigmas)

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., Any]:
        def compiled(*given: Any) -> Any:
            runs.append(pair.asked[-1][0])
            return graph.forward(*given)

        return compiled

    model = getattr(pair, name).clone()
    set_torch_compile_wrapper(model, backend=backend, keys=["diffusion_model.blocks.0.ffn"])
    setattr(pair, name, model)
    relay = pair.relay("euler", sigmas)
    assert (set(runs), len(runs)) == ({name}, 2)
    assert largest_difference(relay, plain) < SAME * float(plain.std())


def from_file(pair: Pair, name: str, seed: int, folder: Path) -> Any:
    """An expert that ComfyUI can load again, as it does for a second device."""
    path = folder / f"{name}.safetensors"
    weights = tiny_wan(seed=seed).model.diffusion_model.state_dict()
    save_file(weights, path, {"config": json.dumps({"transformer": {"text_dim": TEXT_DIM}})})
    return pair._recorded(name, with_shift(comfy.sd.load_diffusion_model(str(path)), 5.0))


SECOND = torch.device("cpu", 0)  # to ComfyUI another device than torch.device("cpu"), and as near as a CPU comes to one


@pytest.mark.parametrize(
    "place", [_apply_patcher_device, lambda model, device: _retarget_patcher(model, device, device)]
)
@pytest.mark.parametrize("names", [("high",), ("low",), ("high", "low")])
def test_each_expert_on_a_device_of_its_own(
    names: tuple[str, ...], place: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Select Model Device as far as ComfyUI 0.30 goes without a GPU: its own functions, towards a second CPU device.

    One of them only moves the MODEL, the other loads its file again, as for a second card.
    """
    pair = Pair()
    pair.high, pair.low = from_file(pair, "high", 1, tmp_path), from_file(pair, "low", 2, tmp_path)
    sigmas = pair.sigmas(STEPS)
    plain, asked = pair.relay("euler", sigmas), list(pair.asked)
    for name in names:
        before = getattr(pair, name)
        setattr(pair, name, place(before.clone(), SECOND))
        assert getattr(pair, name).load_device == SECOND
    loads: list[torch.device] = []
    load = comfy.model_management.load_models_gpu

    def noted(models: list[Any], *rest: Any, **options: Any) -> Any:
        loads.extend(model.load_device for model in models)
        return load(models, *rest, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", noted)
    assert torch.equal(pair.relay("euler", sigmas), plain)
    assert pair.asked == asked
    assert loads == [SECOND if name in names else torch.device("cpu") for name in ("high", "low")]


def test_the_noise_levels_are_on_the_card_of_the_expert_that_hears_them() -> None:
    """A CPU has no second device, so here it is PyTorch's "meta", to which everything that is told must have gone."""
    expert = WaitingExpert.__new__(WaitingExpert)
    expert.model_patcher = SimpleNamespace(load_device=torch.device("meta"))
    heard: list[torch.Tensor] = []

    def predict(x: torch.Tensor, timestep: torch.Tensor, options: dict[str, Any], seed: int) -> torch.Tensor:
        heard.extend([x, timestep, options["transformer_options"]["sample_sigmas"]])
        return torch.ones(2)

    expert.outer_predict_noise = predict
    levels = torch.tensor([1.0, 0.5, 0.0])
    options = {"transformer_options": {"sample_sigmas": levels, "own": 1}, "other": 2}
    assert torch.equal(expert.predict(torch.zeros(2), torch.ones(1), options, 0), torch.ones(2))
    assert {each.device.type for each in heard} == {"meta"}
    assert options["transformer_options"]["sample_sigmas"] is levels, "those of the first expert stay where they are"


def test_a_device_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    pair = Pair()
    pair.high, pair.low = from_file(pair, "high", 1, tmp_path), from_file(pair, "low", 2, tmp_path)
    sigmas = pair.sigmas(STEPS)
    plain = pair.relay("euler", sigmas)
    pair.low = SelectModelDeviceNode.execute(pair.low, "gpu:1").result[0]
    assert torch.equal(pair.relay("euler", sigmas), plain)
    pair.high = SelectModelDeviceNode.execute(pair.high, "cpu").result[0]
    assert torch.equal(pair.relay("euler", sigmas), plain)
