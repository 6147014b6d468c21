"""The Sample node as a whole: schema, report, warnings, refusals."""

import json
import re
import time
from itertools import pairwise
from typing import Any

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from wan_relay.nodes.apply_nag import ApplyNag
from wan_relay.nodes.engine.relay.flow_solvers import sampler_names
from wan_relay.nodes.opening_leg import OpeningLegNode
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.sample import Sample
from wan_relay.nodes.schedule import Schedule
from wan_relay.tests.engine.relay.relay_runs import largest_difference, noise_for
from wan_relay.tests.engine.tiny_wan import LATENT_SHAPE, conditioning, tiny_wan

pytestmark = pytest.mark.comfy

DEFAULTS = {
    "seed": 0,
    "steps": 4,
    "high_noise_cfg": 1.0,
    "low_noise_cfg": 1.0,
    "sampler": "euler",
    "scheduler": "simple",
    "shift": 5.0,
    "switch": "boundary",
    "boundary": 0.9,
    "switch_step": 2,
    "denoise": 1.0,
}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {"high_noise": tiny_wan(seed=1), "low_noise": tiny_wan(seed=2)}


def sample(models: dict[str, Any], latent: dict | None = None, **inputs: Any) -> tuple[dict, dict]:
    """(latent, report) of the node with its defaults and these inputs."""
    given: dict[str, Any] = {
        **DEFAULTS,
        **models,
        "positive": conditioning(3),
        "negative": conditioning(4),
        "latent": {"samples": torch.zeros(LATENT_SHAPE)} if latent is None else latent,
        **inputs,
    }
    with torch.inference_mode():
        output = Sample.execute(**given)
    report = output.ui["wan_relay"][0]
    assert json.loads(output.args[1]) == report
    return output.args[0], report


def test_schema_is_the_contract() -> None:
    info = Sample.GET_NODE_INFO_V1()
    required, optional = info["input"]["required"], info["input"]["optional"]
    assert (info["name"], info["category"]) == ("WanRelay_Sample", "wan relay")
    assert list(optional) == ["low_noise", "opening"]
    assert list(required) == ["high_noise", "positive", "negative", "latent", *DEFAULTS]
    assert {name: required[name][1]["default"] for name in DEFAULTS} == DEFAULTS
    ranges = {name: (spec[1]["min"], spec[1]["max"]) for name, spec in required.items() if "min" in spec[1]}
    assert ranges == {
        "seed": (0, 2**64 - 1),
        "steps": (1, 200),
        "high_noise_cfg": (0.0, 100.0),
        "low_noise_cfg": (0.0, 100.0),
        "shift": (0.0, 100.0),
        "boundary": (0.0, 1.0),
        "switch_step": (0, 200),
        "denoise": (0.0, 1.0),
    }
    assert info["output_name"] == ["latent", "report"]
    assert all(spec[1].get("tooltip") for spec in [*required.values(), *optional.values()])
    assert all(info["output_tooltips"])
    assert required["sampler"][1]["options"][-2:] == ["flow_unipc", "flow_dpm++"]
    assert required["scheduler"][1]["options"][-2:] == ["official_unipc", "official_dpm++"]


def test_the_report_of_a_four_step_run(models: dict[str, Any]) -> None:
    latent, report = sample(models, seed=7)
    assert latent["samples"].shape == LATENT_SHAPE
    assert report.pop("sigmas") == pytest.approx([1, 0.9375, 0.833333, 0.625, 0], abs=1e-6)
    for key in ("seconds", "load_seconds"):
        seconds = report.pop(key)
        assert list(seconds) == ["high_noise", "low_noise"]
        assert all(0 <= value < 60 for value in seconds.values())
    legs = report.pop("legs")
    assert [leg.pop("from_sigma") for leg in legs] == pytest.approx([1, 0.833333], abs=1e-6)
    assert legs == [{"leg": f"{name}_noise", "steps": 2, "cfg": 1.0, "nag_scale": 0.0} for name in ("high", "low")]
    assert report == {**DEFAULTS, "seed": 7, "switch_step": 2, "warnings": [], "found": []}


def opening_leg(model: Any, **inputs: Any) -> tuple:
    return OpeningLegNode.execute(**{"model": model, "steps": 1, "cfg": 3.5, **inputs}).args[0]


def test_the_report_of_a_run_with_opening_legs(models: dict[str, Any]) -> None:
    first = opening_leg(models["high_noise"])
    both = opening_leg(models["high_noise"], steps=2, cfg=2.0, previous=first)
    nag = ApplyNag.execute(**models, negative=conditioning(4), scale=5.0, alpha=0.25, tau=2.5).args
    given = {"high_noise": nag[0], "low_noise": nag[1], "steps": 8, "low_noise_cfg": 3.0, "opening": both}
    _, report = sample(models, **given)
    assert [(leg["leg"], leg["steps"], leg["cfg"], leg["nag_scale"]) for leg in report["legs"]] == [
        ("opening", 1, 3.5, 0.0),
        ("opening_2", 2, 2.0, 0.0),
        ("low_noise", 5, 3.0, 0.0),
    ]
    assert report["switch_step"] == 3
    assert list(report["seconds"]) == ["opening", "opening_2", "high_noise", "low_noise"]
    assert report["seconds"]["opening_2"] > 0 == report["seconds"]["high_noise"]
    assert report["warnings"] == [
        "The opening legs take every step of the high-noise expert, which is not used.",
        "NAG acts at cfg 1 only: it is off for low_noise, whose cfg is 3.",
    ]
    assert report["found"] == report["warnings"][1:]


@pytest.mark.parametrize(
    ("leg", "sentence"),
    [
        ({"model": "t2v"}, "opening must be a model of the experts' kind, a Wan2.2 I2V expert, and this one is"),
        ({"positive": conditioning(3, image=False)}, "opening: positive must carry a start or end image"),
        ({"negative": conditioning(3, image=False)}, "opening: negative must carry the image too"),
        ({"positive": conditioning(3, frames=2)}, "opening: latent must have as many latent frames as the image"),
        ({"steps": 5}, "opening takes 5 steps, and the schedule has 4."),
    ],
)
def test_opening_legs_that_do_not_fit(models: dict[str, Any], leg: dict[str, Any], sentence: str) -> None:
    model = tiny_wan("t2v") if leg.get("model") else models["high_noise"]
    with pytest.raises(InvalidInput, match=re.escape(sentence)):
        sample(models, opening=opening_leg(**{**leg, "model": model}))


@pytest.mark.parametrize(
    ("inputs", "steps"),
    [
        ({}, {"high_noise": 2, "low_noise": 2}),
        ({"switch": "step", "switch_step": 1}, {"high_noise": 1, "low_noise": 3}),
        ({"switch": "step", "switch_step": 3, "steps": 8}, {"high_noise": 3, "low_noise": 5}),
        ({"switch": "step", "switch_step": 0}, {"high_noise": 0, "low_noise": 4}),
        ({"switch": "step", "switch_step": 4}, {"high_noise": 4, "low_noise": 0}),
        ({"boundary": 0.9375}, {"high_noise": 2, "low_noise": 2}),
        ({"denoise": 0.6}, {"high_noise": 1, "low_noise": 3}),
    ],
)
def test_each_expert_is_told_its_own_steps_and_seconds(
    monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Any], steps: dict[str, int]
) -> None:
    """On a clock that goes on by 3 seconds in each high-noise evaluation and by 5 in each low-noise one."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    pair = {"high_noise": tiny_wan(seed=1), "low_noise": tiny_wan(seed=2)}
    pace = {"high_noise": 3.0, "low_noise": 5.0}
    for name, model in pair.items():

        def wait(executor: Any, *args: Any, seconds: float = pace[name], **options: Any) -> torch.Tensor:
            now[0] += seconds
            return executor(*args, **options)

        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "wait", wait)
    _, report = sample(pair, **inputs)
    seconds = {name: steps[name] * pace[name] for name in pair}
    assert report["switch_step"] == steps["high_noise"]
    assert (report["seconds"], report["load_seconds"]) == (seconds, dict.fromkeys(pair, 0.0))


def test_the_seed_decides_and_core_agrees(models: dict[str, Any]) -> None:
    """The same noise as ComfyUI's KSampler, and all of it from the seed."""
    first, again, other = (sample(models, seed=seed)[0]["samples"] for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    alone, _ = sample({**models, "low_noise": tiny_wan(seed=1)}, seed=5)
    with torch.inference_mode():
        sampler = comfy.samplers.KSampler(models["high_noise"], 4, "cpu", "euler", "simple", 1.0)
        sigmas = torch.tensor([1.0, 0.9375, 0.8333333, 0.625, 0.0])
        core = sampler.sample(
            noise_for(torch.zeros(LATENT_SHAPE)),
            conditioning(3),
            conditioning(4),
            cfg=1.0,
            latent_image=torch.zeros(LATENT_SHAPE),
            sigmas=sigmas,
            disable_pbar=True,
            seed=5,
        )
    assert largest_difference(alone["samples"], core) < 1e-5 * float(core.std())


@pytest.mark.parametrize(
    ("inputs", "switch_step", "n_sigmas"),
    [
        ({"boundary": 0.6}, 4, 5),
        ({"switch": "step", "switch_step": 1}, 1, 5),
        ({"switch": "step", "switch_step": 0}, 0, 5),
        ({"denoise": 0.5}, 0, 5),
        ({"denoise": 0.0}, 0, 0),
        ({"scheduler": "official_unipc", "sampler": "flow_unipc", "steps": 40}, 15, 41),
        ({"scheduler": "official_unipc", "sampler": "flow_unipc", "steps": 40, "shift": 0.0}, 19, 41),
        ({"sampler": "uni_pc"}, 2, 5),
        ({"scheduler": "linear_quadratic"}, 3, 5),
    ],
)
def test_switch_step_and_sigmas_are_what_ran(
    models: dict[str, Any], inputs: dict[str, Any], switch_step: int, n_sigmas: int
) -> None:
    _, report = sample(models, **inputs)
    assert (report["switch_step"], len(report["sigmas"])) == (switch_step, n_sigmas)
    assert all(a > b for a, b in pairwise(report["sigmas"]))
    assert report["shift"] == (inputs.get("shift", 5.0) or 8.0)
    assert (report["seconds"]["high_noise"] > 0) == (switch_step > 0)


@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_the_report_has_the_sigmas_that_were_asked_for_whatever_a_sampler_does_to_them(
    models: dict[str, Any], denoise: float
) -> None:
    """uni_pc writes 0.001 over the last sigma that it is given."""
    for sampler in sampler_names():
        asked = {"scheduler": "simple", "sampler": sampler, "steps": 3, "shift": 5.0, "denoise": denoise}
        _, report = sample(models, **asked)
        assert report["sigmas"] == Schedule.execute(models["high_noise"], **asked).args[0].tolist(), sampler
        assert report["sigmas"][-1] == 0, sampler


@pytest.mark.parametrize("switch", ["boundary", "step"])
def test_denoise_0_returns_the_latent_as_it_came(models: dict[str, Any], switch: str) -> None:
    latent = torch.randn(LATENT_SHAPE)
    sampled, _ = sample(models, latent={"samples": latent}, denoise=0.0, switch=switch)
    assert torch.equal(sampled["samples"], latent)


@pytest.mark.parametrize(("switch_step", "mine", "others"), [(4, (3.0, 3.0), (1.0, 1.0)), (0, (1.0, 1.0), (3.0, 3.0))])
def test_each_expert_has_its_own_cfg(
    models: dict[str, Any], switch_step: int, mine: tuple[float, float], others: tuple[float, float]
) -> None:
    """Where one expert takes every step, its cfg alone counts."""

    def sampled(high: float, low: float) -> torch.Tensor:
        inputs = {"switch": "step", "switch_step": switch_step, "high_noise_cfg": high, "low_noise_cfg": low}
        return sample(models, **inputs)[0]["samples"]

    asked = sampled(3.0, 1.0)
    assert torch.equal(asked, sampled(*mine))
    assert largest_difference(asked, sampled(*others)) > 0.1


def test_masks_batch_indices_and_other_entries_of_the_latent_go_on(models: dict[str, Any]) -> None:
    mask = torch.zeros(1, 1, *LATENT_SHAPE[2:])
    given = {
        "samples": torch.randn(LATENT_SHAPE),
        "noise_mask": mask,
        "batch_index": [3],
        "downscale_ratio_spacial": 8,
        "note": "kept",
    }
    sampled, _ = sample(models, latent=given)
    torch.testing.assert_close(sampled["samples"], given["samples"], rtol=1e-4, atol=1e-4)
    assert sorted(sampled) == ["batch_index", "noise_mask", "note", "samples"]
    assert sampled["note"] == "kept"


def test_a_batch_index_picks_that_videos_noise(models: dict[str, Any]) -> None:
    both, _ = sample(models, latent={"samples": torch.zeros(2, *LATENT_SHAPE[1:])}, seed=3)
    second, _ = sample(models, latent={"samples": torch.zeros(LATENT_SHAPE), "batch_index": [1]}, seed=3)
    torch.testing.assert_close(second["samples"], both["samples"][1:], rtol=1e-4, atol=1e-4)
    assert largest_difference(second["samples"], both["samples"][:1]) > 0.1


def test_ti2v_5b_runs_as_one_model() -> None:
    latent, report = sample(
        {"high_noise": tiny_wan("ti2v_5b")},
        latent={"samples": torch.zeros(1, 48, 2, 4, 4)},
        positive=conditioning(3, image=False),
        negative=conditioning(4, image=False),
        high_noise_cfg=3.0,
    )
    assert latent["samples"].shape == (1, 48, 2, 4, 4)
    assert (report["switch_step"], report["seconds"]["low_noise"], report["warnings"]) == (4, 0.0, [])


@pytest.mark.parametrize(
    ("inputs", "warning"),
    [
        ({"scheduler": "linear_quadratic"}, "The linear_quadratic scheduler ignores shift."),
        ({"boundary": 0.6}, "Every step is the high-noise expert's; the low-noise expert is not used."),
        ({"boundary": 0.875}, "boundary is 0.875; the Wan2.2 reference uses 0.9 for a Wan2.2 I2V expert."),
        ({"scheduler": "beta", "steps": 200}, "The beta scheduler gave"),
        (
            {"latent": {"samples": torch.zeros(1, 16, 3, 4, 6)}},
            "encoded at 32x32 and its middle is scaled to the latent's 48x32.",
        ),
    ],
)
def test_warnings(models: dict[str, Any], inputs: dict[str, Any], warning: str) -> None:
    _, report = sample(models, **inputs)
    assert [warning in text for text in report["warnings"]] == [True]


def test_models_with_different_shifts_of_their_own_warn(models: dict[str, Any]) -> None:
    from wan_relay.nodes.engine.relay.shifted_model import with_shift

    own = {"high_noise": with_shift(models["high_noise"], 5.0), "low_noise": with_shift(models["low_noise"], 3.0)}
    _, report = sample(own, shift=0.0)
    assert report["shift"] == 5.0
    (warning,) = report["warnings"]
    assert "high-noise model's 5, not with the low-noise model's 3" in warning
    assert sample(own, shift=3.0)[1]["warnings"] == [
        "shift 3 replaces the 5 that is set on high_noise; shift 0 keeps it."
    ]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"positive": conditioning(3, image=False)}, "positive must carry a start or end image for an I2V pair"),
        (
            {"negative": conditioning(4, image=False), "low_noise_cfg": 3.5},
            "negative must carry the image too, because cfg is not 1",
        ),
        ({"low_noise": None}, "low_noise is missing"),
        ({"latent": {"samples": torch.zeros(1, 48, 3, 4, 4)}}, "latent must be a video latent with 16 channels"),
        ({"switch": "step", "switch_step": 5}, "switch_step must be between 0 and the number of steps, which is 4"),
        ({"sampler": "unknown"}, "sampler must be one of"),
        ({"scheduler": "unknown"}, "scheduler must be one of"),
    ],
)
def test_refusals_come_before_anything_is_loaded(
    models: dict[str, Any], monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Any], sentence: str
) -> None:
    def loaded(*args: Any, **kwargs: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", loaded)
    with pytest.raises(InvalidInput, match=re.escape(sentence)):
        sample(models, **inputs)


@pytest.mark.parametrize(
    ("inputs", "answer"),
    [
        ({}, True),
        ({"switch_step": 9}, True),
        ({"switch": "step", "switch_step": 4}, True),
        ({"switch": "step", "switch_step": 9, "steps": None}, True),
        ({"switch": None, "switch_step": None, "steps": None}, True),
        ({"switch": "step", "switch_step": 5}, "switch_step must be between 0 and the number of steps, which is 4"),
        ({"switch_step": -1}, "switch_step must be between 0 and 200, not -1"),
        ({"steps": 0}, "steps must be between 1 and 200, not 0"),
        ({"steps": 201}, "steps must be between 1 and 200, not 201"),
        ({"steps": "abc"}, True),
        ({"switch": "never"}, "switch must be 'boundary' or 'step', not 'never'"),
    ],
)
def test_values_refused_at_queue_time(inputs: dict[str, Any], answer: bool | str) -> None:
    given = {"switch": "boundary", "switch_step": 2, "steps": 4, **inputs}
    result = Sample.validate_inputs(**given)
    assert result is True if answer is True else str(result).startswith(str(answer))
    assert Sample.validate_inputs() is True
