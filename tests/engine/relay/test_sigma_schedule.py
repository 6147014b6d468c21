import json
from pathlib import Path
from typing import Any

import comfy.samplers
import pytest
import torch
from wan_relay.nodes.engine.relay.sigma_schedule import (
    NOTES,
    make_sigmas,
    plan_schedule,
    sampling_with_shift,
    scheduler_names,
)
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.tests.golden_schedules import CASES, Case

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).resolve().parents[3]
COMFY_CASES = [case for case in CASES if case.scheduler.startswith("comfy_")]
OTHER_SAMPLERS = ("euler", "flow_unipc", "flow_dpm++", "dpmpp_2m")
PENULTIMATE_SAMPLERS = ("uni_pc", "uni_pc_bh2", "dpm_2", "dpm_2_ancestral")


def ours(case: Case, sampler: str) -> list[float]:
    scheduler = case.scheduler.removeprefix("comfy_").removesuffix("+discard_penultimate")
    return make_sigmas(sampling_with_shift(case.shift), scheduler, sampler, case.steps).tolist()


def test_every_golden_comfyui_schedule() -> None:
    assert len(COMFY_CASES) == 151
    for case in COMFY_CASES:
        discards = case.scheduler.endswith("+discard_penultimate")
        for sampler in PENULTIMATE_SAMPLERS if discards else OTHER_SAMPLERS:
            assert ours(case, sampler) == pytest.approx(case.sigmas, abs=1e-6), (case[:3], sampler)


@pytest.mark.parametrize("scheduler", ["official_unipc", "official_dpm++"])
def test_the_official_schedules_through_the_same_function(scheduler: str) -> None:
    for case in [case for case in CASES if case.scheduler == scheduler]:
        assert ours(case, "flow_unipc") == pytest.approx(case.sigmas, abs=1e-6), case[:3]


@pytest.mark.parametrize("denoise", [1.0, 0.9999, 0.77, 0.5, 0.05])
@pytest.mark.parametrize("sampler", ["euler", "uni_pc"])
def test_denoise_keeps_what_ksampler_keeps(sampler: str, denoise: float) -> None:
    class ModelOfSchedule:
        def get_model_object(self, name: str) -> Any:
            return sampling_with_shift(5.0)

    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        core = comfy.samplers.KSampler(ModelOfSchedule(), 6, "cpu", sampler, scheduler, denoise).sigmas
        sigmas = make_sigmas(sampling_with_shift(5.0), scheduler, sampler, 6, denoise)
        assert torch.equal(sigmas, core), scheduler


def test_steps_that_do_nothing_are_left_out() -> None:
    """ComfyUI's `simple` repeats noise levels where it is asked for more than the model's thousand."""
    sigmas = make_sigmas(sampling_with_shift(5.0), "simple", "euler", 60, 0.05)
    assert len(sigmas) < 61
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0


def test_denoise_of_an_official_schedule_is_the_end_of_a_longer_one() -> None:
    sampling = sampling_with_shift(5.0)
    long = make_sigmas(sampling, "official_unipc", "flow_unipc", 8)
    assert torch.equal(make_sigmas(sampling, "official_unipc", "flow_unipc", 4, 0.5), long[-5:])
    assert len(make_sigmas(sampling, "simple", "euler", 4, 0.0)) == 0


def test_a_plan_says_what_sample_would_run() -> None:
    plan = plan_schedule(4, "simple", "euler", 5.0)
    assert plan.pop("sigmas") == pytest.approx([1, 0.9375, 0.833333, 0.625, 0], abs=1e-6)
    assert plan == {
        "switch_step": 2,
        "n_opening": [],
        "n_high": 2,
        "n_low": 2,
        "boundary": 0.9,
        "switch": "boundary",
        "warnings": [],
        "notes": [],
    }


def test_notes_are_the_warnings_for_the_panel_to_translate() -> None:
    texts = json.loads((ROOT / "locales" / "en" / "main.json").read_text())["wanRelay"]
    english = {key.removeprefix("note_"): text for key, text in texts.items() if key.startswith("note_")}
    assert {key: text.replace(":g}", "}") for key, text in NOTES.items()} == english
    plan = plan_schedule(4, "linear_quadratic", "euler", 0.0, boundary=0.0)
    assert plan["notes"] == [{"note": "all_high", "shift": 8.0}, {"note": "own_shift", "shift": 8.0}]
    assert plan["warnings"] == [english["all_high"], english["own_shift"].format(shift=8)]


def test_one_model_has_no_expert_to_miss() -> None:
    for step in (0, 4):
        plan = plan_schedule(4, "simple", "euler", 5.0, switch="step", switch_step=step, num_experts=1)
        assert plan["warnings"] == plan["notes"] == []


@pytest.mark.parametrize(
    ("changes", "n_high", "warning"),
    [
        ({"scheduler": "linear_quadratic"}, 3, "ignores shift"),
        ({"scheduler": "linear_quadratic", "switch": "step"}, 2, "ignores shift"),
        ({"switch": "step", "switch_step": 4}, 4, "the low-noise expert is not used"),
        ({"switch": "step", "switch_step": 0}, 0, "the high-noise expert is not used"),
        ({"boundary": 1.0}, 1, None),
        ({"denoise": 0.5}, 0, "the high-noise expert is not used"),
        ({"shift": 0.0}, 2, "ComfyUI's default of 8"),
    ],
)
def test_plans(changes: dict[str, Any], n_high: int, warning: str | None) -> None:
    plan = plan_schedule(**{"steps": 4, "scheduler": "simple", "sampler": "euler", "shift": 5.0, **changes})
    assert (plan["n_high"], plan["n_low"]) == (n_high, 4 - n_high)
    assert [warning in text for text in plan["warnings"]] == [True] if warning else plan["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"switch": "step", "switch_step": 5}, "switch_step must be between 0 and the number of steps, which is 4"),
        ({"switch": "step", "switch_step": -1}, "switch_step must be between 0"),
        ({"boundary": 1.5}, "boundary must be between 0 and 1, not 1.5"),
        ({"switch": "sigma"}, "switch must be 'boundary' or 'step', not 'sigma'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"scheduler": "unknown"}, "scheduler must be one of .*, not 'unknown'"),
        ({"scheduler": "kl_optimal", "steps": 1}, "scheduler kl_optimal cannot make 1 steps: choose another"),
        ({"denoise": 1e-7}, "denoise must be at least 0.0002 for 4 steps, not 1e-07"),
    ],
)
def test_values_that_cannot_be_meant(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        plan_schedule(**{"steps": 4, "scheduler": "simple", "sampler": "euler", "shift": 5.0, **changes})


@pytest.mark.parametrize("scheduler", ["simple", "sgm_uniform", "beta", "official_unipc", "official_dpm++"])
def test_plans_know_every_scheduler_of_the_node(scheduler: str) -> None:
    assert scheduler in scheduler_names()
    assert len(plan_schedule(8, scheduler, "euler", 5.0)["sigmas"]) == 9
