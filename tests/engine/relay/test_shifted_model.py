"""A model with another shift is made once: what ComfyUI keeps of it from run to run, and when it lets go."""

import gc
import weakref
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import pytest
import torch
from wan_relay.nodes.engine.relay.relay_run import RelaySettings, run_relay
from wan_relay.nodes.engine.relay.shifted_model import MOST_CLONES, sampling_of, with_shift
from wan_relay.tests.engine.relay.test_hook_loras import hook_lora, keys
from wan_relay.tests.engine.tiny_wan import LATENT_SHAPE, conditioning, tiny_wan

pytestmark = pytest.mark.comfy


def run(high: Any, low: Any, positive: list, shift: float) -> torch.Tensor:
    settings = RelaySettings(1, 4, 1.0, 1.0, "euler", "simple", shift, "step", 0.9, 2, 1.0)
    with torch.inference_mode():
        made, _ = run_relay(high, low, positive, conditioning(4), {"samples": torch.zeros(LATENT_SHAPE)}, settings)
    return made["samples"]


def test_a_model_has_one_clone_of_each_shift() -> None:
    model = tiny_wan()
    assert with_shift(model, 0) is model
    five = with_shift(model, 5.0)
    assert five is with_shift(model, 5.0)
    assert five is not with_shift(model, 3.0)
    assert five.get_model_object("model_sampling").shift == sampling_of(model, 5.0).shift == 5.0
    assert sampling_of(model, 0) is model.get_model_object("model_sampling")
    assert five is not with_shift(model.clone(), 5.0), "another MODEL, such as one with a LoRA"


def test_what_a_node_changes_in_the_model_itself_counts_in_the_next_run() -> None:
    model = tiny_wan()
    first = with_shift(model, 5.0)
    model.model_options["transformer_options"]["said"] = 1
    assert with_shift(model, 5.0).model_options["transformer_options"]["said"] == 1
    name = next(key for key in model.model.state_dict() if key.endswith("head.head.weight"))
    model.add_patches({name: (torch.ones_like(model.model.state_dict()[name]),)})
    patched = with_shift(model, 5.0)
    assert patched is not first
    assert patched.patches.keys() == model.patches.keys()


def test_only_the_last_shifts_are_kept() -> None:
    model = tiny_wan()
    first = with_shift(model, 1.0)
    for number in range(2, MOST_CLONES + 1):
        with_shift(model, float(number))
    assert with_shift(model, 1.0) is first, "used last"
    with_shift(model, 99.0)
    assert with_shift(model, 1.0) is first
    second = weakref.ref(with_shift(model, 3.0))
    for number in range(MOST_CLONES):
        with_shift(model, 50.0 + number)
    assert second() is None


def test_the_weights_go_with_the_model_and_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        assert [still_there(shift) for shift in (0, 5.0)] == [False, False]
    finally:
        gc.enable()


def still_there(shift: float) -> bool:
    """Whether weights are in memory after a run, once the graph lets go of the models and Python collects nothing."""
    pair = [tiny_wan(seed=1), tiny_wan(seed=2)]
    weights = weakref.ref(pair[0].model)
    run(*pair, conditioning(3), shift)
    comfy.model_management.unload_all_models()
    pair.clear()
    return weights() is not None


def test_streamed_weights_stay_pinned_from_run_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy.model_management, "pin_memory", lambda tensor: True)
    monkeypatch.setattr(comfy.model_management, "unpin_memory", lambda tensor: True)
    load = comfy.model_patcher.ModelPatcher.partially_load
    monkeypatch.setattr(
        comfy.model_patcher.ModelPatcher,
        "partially_load",
        lambda self, device, extra_memory=0, **more: load(self, device, 1, **more),  # nothing fits: all is streamed
    )
    high, low = tiny_wan(seed=1), tiny_wan(seed=2)
    pinned = []
    for _ in range(3):
        run(high, low, conditioning(3), 5.0)
        pinned.append((len(high.pinned), len(low.pinned)))
    assert min(pinned[0]) > 0
    assert pinned == [pinned[0]] * 3


class Dynamic(comfy.model_patcher.ModelPatcher):
    """As ComfyUI's patcher of dynamic VRAM, which takes another one in its place where there are hooks."""

    non_dynamic_delegate_model = None
    get_non_dynamic_delegate = comfy.model_patcher.ModelPatcherDynamic.get_non_dynamic_delegate

    def is_dynamic(self) -> bool:
        return True


def test_a_hook_lora_reads_each_file_once() -> None:
    read: list[int] = []

    def load(seed: int, disable_dynamic: bool = False) -> Any:
        read.append(seed)
        return tiny_wan(seed=seed)

    def dynamic(seed: int) -> Any:
        model = tiny_wan(seed=seed)
        patcher = Dynamic(model.model, model.load_device, model.offload_device)
        patcher.cached_patcher_init = (load, (seed,))
        return patcher

    high, low = dynamic(1), dynamic(2)
    positive = comfy.hooks.set_hooks_for_conditioning(conditioning(3), hook_lora(keys((1.0, 0.0), (0.5, 0.5))))
    runs = [run(high, low, positive, 5.0) for _ in range(3)]
    assert read == [1, 2]
    assert all(torch.equal(each, runs[0]) for each in runs)
