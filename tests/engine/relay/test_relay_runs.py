"""A run as a whole: the same as ComfyUI's own where one model plays both parts, and safe to cancel and to fail."""

from typing import Any

import comfy.conds
import comfy.model_management
import comfy.model_patcher
import comfy.nested_tensor
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from wan_relay.nodes.engine.relay.flow_solvers import make_sampler, sampler_names
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.tests.engine.relay.relay_runs import LATENT_SHAPE, Pair, alone, noise_for, run, twins
from wan_relay.tests.engine.tiny_wan import conditioning

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def pair() -> Any:
    return Pair()


@pytest.fixture(scope="module", name="twins")
def lasting_twins() -> Any:
    return twins()


def check_like_alone(twins: Any, sampler: str, sigmas: torch.Tensor, cfg: float = 1.0, **inputs: Any) -> torch.Tensor:
    twins.asked.clear()
    relay = run(twins.guider(cfg), sampler, sigmas, **inputs)
    assert {name for name, _ in twins.asked} == {"high", "low"}
    assert torch.equal(relay, run(alone(twins, cfg), sampler, sigmas, **inputs))
    return relay


def test_every_sampler_runs_as_it_does_on_one_model(twins: Any) -> None:
    for sampler in sampler_names():
        check_like_alone(twins, sampler, twins.sigmas(4, sampler))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "flow_unipc", "euler_cfg_pp"])
def test_guidance_runs_as_it_does_on_one_model(twins: Any, sampler: str) -> None:
    check_like_alone(twins, sampler, twins.sigmas(6), cfg=3.5)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "flow_unipc", "flow_dpm++", "dpmpp_sde"])
def test_noise_masks(twins: Any, sampler: str) -> None:
    latent = torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, *LATENT_SHAPE[2:])
    mask[..., :2] = 1.0
    result = check_like_alone(twins, sampler, twins.sigmas(6), latent=latent, mask=mask)
    torch.testing.assert_close(result[..., 2:], latent[..., 2:], rtol=1e-4, atol=1e-4)
    assert float((result[..., :2] - latent[..., :2]).abs().mean()) > 0.1


@pytest.mark.parametrize("sampler", ["euler", "flow_unipc", "flow_dpm++"])
def test_denoise_below_one_and_batches(twins: Any, sampler: str) -> None:
    latent = torch.randn(2, *LATENT_SHAPE[1:], generator=torch.Generator().manual_seed(1))
    result = check_like_alone(twins, sampler, twins.sigmas(12)[2:], latent=latent)
    assert result.shape == latent.shape


def test_differential_diffusion_belongs_to_its_expert(twins: Any, pair: Any) -> None:
    latent = torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    mask = torch.linspace(0, 1, 4).expand(1, 1, *LATENT_SHAPE[2:]).contiguous()
    both = Pair()
    sigmas = both.sigmas(6)
    plain = run(both.guider(), "euler", sigmas, latent=latent, mask=mask)
    seen: list[float] = []

    def mask_function(sigma: torch.Tensor, mask: torch.Tensor, extra_options: dict) -> torch.Tensor:
        seen.append(round(float(sigma[0]), 3))
        return DifferentialDiffusion.forward(sigma, mask, extra_options, 1.0)

    both.low = both.low.clone()
    both.low.set_model_denoise_mask_function(mask_function)
    changed = run(both.guider(), "euler", sigmas, latent=latent, mask=mask)
    assert seen == [round(sigma, 3) for sigma in sigmas.tolist()[:-1] if sigma < 0.9]
    assert not torch.equal(changed, plain)


def test_the_guider_takes_nested_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wan makes video only, so its network is given a second part to carry along here, as audio-video models do."""
    pair = Pair(kind="t2v")
    pair.positive, pair.negative = conditioning(3, image=False), conditioning(4, image=False)

    def first_part_only(executor: Any, x: list[torch.Tensor], *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        return [executor(x[0], *args, **kwargs), 0.1 * x[1]]

    for model in (pair.high, pair.low):
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "parts", first_part_only)
        monkeypatch.setattr(model.model, "process_latent_out", lambda latent: latent)
        monkeypatch.setattr(
            model.model,
            "extra_conds",
            lambda **options: {
                "c_crossattn": comfy.conds.CONDRegular(options["cross_attn"]),
                "latent_shapes": comfy.conds.CONDConstant(options["latent_shapes"]),
            },
        )
    nested = comfy.nested_tensor.NestedTensor
    latents = [torch.zeros(LATENT_SHAPE), torch.zeros(1, 8, 5)]
    seen: list[list[tuple[int, ...]]] = []
    result = pair.guider().sample(
        nested([noise_for(latent) for latent in latents]),
        nested(latents),
        make_sampler("euler"),
        pair.sigmas(4),
        callback=lambda step, denoised, x, total: seen.append([tuple(part.shape) for part in denoised.unbind()]),
        disable_pbar=True,
    )
    assert [name for name, _ in pair.asked] == ["high", "high", "low", "low"]
    assert [part.shape for part in result.unbind()] == [latent.shape for latent in latents]
    assert seen == [[tuple(latent.shape) for latent in latents]] * 4


def test_the_step_callback_runs_once_a_step_over_both_experts(pair: Any) -> None:
    seen: list[tuple[int, int, tuple]] = []
    run(
        pair.guider(),
        "euler",
        pair.sigmas(4),
        callback=lambda step, denoised, x, total: seen.append((step, total, tuple(denoised.shape))),
    )
    assert seen == [(step, 4, LATENT_SHAPE) for step in range(4)]


def state_of(model: Any) -> dict[str, Any]:
    """Everything of a MODEL that a run could leave changed."""
    network = model.model
    return {
        "weights": {key: value.clone() for key, value in network.state_dict().items()},
        "shift": network.model_sampling.shift,
        "sigmas": network.model_sampling.sigmas.clone(),
        "patches": (model.patches_uuid, sorted(model.patches), sorted(model.object_patches)),
        "options": repr(model.model_options),
        "wrappers": repr(model.wrappers),
        "hooks": (repr(model.hook_patches), model.hook_mode, repr(model.hook_backup)),
        "patcher": network.current_patcher,
    }


def same_state(before: dict[str, Any], after: dict[str, Any]) -> bool:
    weights = [name for name, value in before["weights"].items() if not torch.equal(value, after["weights"][name])]
    plain = [key for key in before if key not in ("weights", "sigmas") and before[key] != after[key]]
    return not weights and not plain and torch.equal(before["sigmas"], after["sigmas"])


def check_inputs_unchanged(put_shift: Any) -> None:
    """Runs the relay with another shift and cfg, and compares both MODELs and the conditioning with before."""
    pair = Pair(shift=0)
    before = [state_of(model) for model in (pair.high, pair.low)]
    conditioning = [{key: value.clone() for key, value in options.items()} for _, options in pair.positive]
    high, low = pair.high, pair.low
    pair.high, pair.low = put_shift(high, 3.0), put_shift(low, 3.0)
    run(pair.guider(2.0), "dpmpp_2m", pair.sigmas(4))
    comfy.model_management.unload_all_models()
    assert all(same_state(old, state_of(model)) for old, model in zip(before, (high, low), strict=True))
    for old, (_, options) in zip(conditioning, pair.positive, strict=True):
        assert old.keys() == options.keys()
        assert all(torch.equal(old[key], options[key]) for key in old)


def test_the_input_models_stay_as_they_were() -> None:
    check_inputs_unchanged(with_shift)


def test_a_shift_put_on_the_input_model_would_be_noticed() -> None:
    def in_place(model: Any, shift: float) -> Any:
        model.model.model_sampling.set_parameters(shift=shift, multiplier=1000)
        return model

    with pytest.raises(AssertionError):
        check_inputs_unchanged(in_place)


def test_each_expert_is_loaded_once_and_not_again_while_it_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []
    loaded: list[str] = []
    pair = Pair(shift=0)
    names = {id(pair.high.model): "high", id(pair.low.model): "low"}
    request, load = comfy.model_management.load_models_gpu, comfy.model_patcher.ModelPatcher.load

    def count_request(models: list, *args: Any, **kwargs: Any) -> None:
        requested.extend(names[id(model.model)] for model in models)
        request(models, *args, **kwargs)

    def count_load(self: Any, *args: Any, **kwargs: Any) -> None:
        loaded.append(names[id(self.model)])
        load(self, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", count_request)
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", count_load)
    inputs = pair.high, pair.low
    for shift in (5.0, 5.0, 3.0):
        pair.high, pair.low = (with_shift(model, shift) for model in inputs)
        pair.relay("heun", pair.sigmas(8))
        assert requested == ["high", "low"]
        requested.clear()
    assert loaded == ["high", "low"]


def clean_run(pair: Any) -> torch.Tensor:
    return pair.relay("dpmpp_2m", pair.sigmas(4), cfg=2.0)


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_cancel_stops_before_the_next_evaluation_and_the_next_run_works(pair: Any, evaluations: int) -> None:
    expected = clean_run(pair)
    pair.asked.clear()

    def cancel(step: int, *_: Any) -> None:
        if step == evaluations - 1:
            comfy.model_management.interrupt_current_processing()

    guider = pair.guider(2.0)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(guider, "dpmpp_2m", pair.sigmas(4), callback=cancel)
    assert len({sigma for _, sigma in pair.asked}) == evaluations
    assert pair.low.model.current_patcher is None
    assert pair.high.model.current_patcher is None
    assert torch.equal(run(guider, "dpmpp_2m", pair.sigmas(4)), expected)
    assert torch.equal(clean_run(pair), expected)


@pytest.mark.parametrize("expert", ["high", "low"])
@pytest.mark.parametrize("where", ["prepare_sampling", "process_conds"])
def test_running_out_of_memory_while_loading_leaves_the_next_run_whole(
    pair: Any, monkeypatch: pytest.MonkeyPatch, expert: str, where: str
) -> None:
    expected = clean_run(pair)
    module = comfy.sampler_helpers if where == "prepare_sampling" else comfy.samplers
    works = getattr(module, where)

    def fails(model: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(model, "model", model) is getattr(pair, expert).model:
            raise torch.OutOfMemoryError("no memory left")
        return works(model, *args, **kwargs)

    guider = pair.guider(2.0)
    with monkeypatch.context() as patch:
        patch.setattr(module, where, fails)
        with pytest.raises(torch.OutOfMemoryError):
            run(guider, "dpmpp_2m", pair.sigmas(4))
    assert guider.waiting == {}
    assert pair.low.model.current_patcher is None
    assert torch.equal(run(guider, "dpmpp_2m", pair.sigmas(4)), expected)


def test_the_clock_counts_each_expert(pair: Any) -> None:
    guider = pair.guider()
    for _ in range(2):
        run(guider, "euler", pair.sigmas(4))
        assert sorted(guider.clock.seconds) == ["high_noise", "load_high_noise", "load_low_noise", "low_noise"]
        assert all(0 < seconds < 60 for seconds in guider.clock.seconds.values())
