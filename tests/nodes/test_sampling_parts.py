"""Guider, Schedule and Select Solver inside core's SamplerCustomAdvanced."""

from typing import Any

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import BasicScheduler, KSamplerSelect, RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_nag import NAGuidance
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.nodes.guider import Guider
from wan_relay.nodes.opening_leg import OpeningLegNode
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.sample import Sample
from wan_relay.nodes.schedule import Schedule
from wan_relay.nodes.select_solver import SelectSolver
from wan_relay.tests.engine.tiny_wan import LATENT_SHAPE, conditioning, tiny_wan

pytestmark = pytest.mark.comfy

GUIDER = {
    "high_noise_cfg": 1.0,
    "low_noise_cfg": 1.0,
    "switch": "boundary",
    "boundary": 0.9,
    "switch_step": 2,
    "shift": 5.0,
}
SCHEDULE = {"steps": 4, "scheduler": "simple", "sampler": "euler", "shift": 5.0, "denoise": 1.0}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {"high_noise": tiny_wan(seed=1), "low_noise": tiny_wan(seed=2)}


def guider(models: dict[str, Any], **inputs: Any) -> Any:
    given = {**GUIDER, **models, "positive": conditioning(3), "negative": conditioning(4), **inputs}
    return Guider.execute(**given).args[0]


def sample(guider: Any, sampler: Any, sigmas: torch.Tensor, seed: int = 7) -> torch.Tensor:
    noise = RandomNoise.execute(seed).result[0]
    with torch.inference_mode():
        output = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": torch.zeros(LATENT_SHAPE)})
    return output.result[0]["samples"]


@pytest.mark.parametrize(
    ("node", "name", "order", "defaults"),
    [
        (Guider, "WanRelay_Guider", ["high_noise", "positive", "negative", *GUIDER], GUIDER),
        (Schedule, "WanRelay_Schedule", ["model", *SCHEDULE], SCHEDULE),
        (SelectSolver, "WanRelay_SelectSolver", ["solver"], {"solver": "flow_unipc"}),
    ],
)
def test_schemas_are_the_contract(node: Any, name: str, order: list[str], defaults: dict[str, Any]) -> None:
    info = node.GET_NODE_INFO_V1()
    required, optional = info["input"]["required"], info["input"].get("optional", {})
    assert (info["name"], info["category"], list(required)) == (name, "wan relay", order)
    assert list(optional) == (["low_noise", "opening"] if node is Guider else [])
    assert {key: required[key][1]["default"] for key in defaults} == defaults
    assert all(spec[1].get("tooltip") for spec in [*required.values(), *optional.values()])
    assert all(info["output_tooltips"])


@pytest.mark.parametrize("solver", ["flow_unipc", "flow_dpm++"])
def test_the_parts_make_what_sample_makes(models: dict[str, Any], solver: str) -> None:
    sigmas = Schedule.execute(models["high_noise"], **{**SCHEDULE, "steps": 6, "sampler": solver}).args[0]
    parts = sample(guider(models, high_noise_cfg=2.0), SelectSolver.execute(solver).args[0], sigmas)
    with torch.inference_mode():
        whole = Sample.execute(
            **models,
            positive=conditioning(3),
            negative=conditioning(4),
            latent={"samples": torch.zeros(LATENT_SHAPE)},
            seed=7,
            steps=6,
            sampler=solver,
            scheduler="simple",
            **{**GUIDER, "high_noise_cfg": 2.0},
        ).args[0]["samples"]
    assert torch.equal(parts, whole)


def test_the_parts_make_what_sample_makes_with_an_opening_leg(models: dict[str, Any]) -> None:
    opening = OpeningLegNode.execute(models["high_noise"], 1, 3.5).args[0]
    sigmas = Schedule.execute(models["high_noise"], **SCHEDULE).args[0]
    parts = sample(guider(models, opening=opening), KSamplerSelect.execute("euler").result[0], sigmas)
    given = {**models, "positive": conditioning(3), "negative": conditioning(4), "opening": opening, **GUIDER}
    with torch.inference_mode():
        latent = {"samples": torch.zeros(LATENT_SHAPE)}
        whole = Sample.execute(**given, latent=latent, seed=7, steps=4, sampler="euler", scheduler="simple").args[0]
    assert torch.equal(parts, whole["samples"])
    assert not torch.equal(parts, sample(guider(models), KSamplerSelect.execute("euler").result[0], sigmas))


def test_comfyuis_nag_is_warned_of(models: dict[str, Any]) -> None:
    own = {"low_noise": NAGuidance.execute(models["low_noise"], 11.0, 0.25, 2.37).result[0]}
    given = {**GUIDER, **models, **own, "positive": conditioning(3), "negative": conditioning(4)}
    (sentence,) = Guider.execute(**given).ui["wan_relay"][0]["warnings"]
    assert sentence.startswith("ComfyUI's NAGuidance on low_noise has no effect on Wan and doubles the time at cfg 1")


def test_core_samplers_and_sigmas_work_with_the_guider(models: dict[str, Any]) -> None:
    sigmas = BasicScheduler.execute(models["high_noise"], "beta", 5, 1.0).result[0]
    result = sample(guider(models, switch="step"), KSamplerSelect.execute("dpmpp_2m").result[0], sigmas)
    assert torch.isfinite(result).all()


def test_the_solvers_work_with_cores_own_guider(models: dict[str, Any]) -> None:
    plain = comfy.samplers.CFGGuider(models["high_noise"])
    plain.set_conds(conditioning(3), conditioning(4))
    sigmas = Schedule.execute(models["high_noise"], **SCHEDULE).args[0]
    assert torch.isfinite(sample(plain, SelectSolver.execute("flow_unipc").args[0], sigmas)).all()


def test_a_guider_that_is_used_again_gives_the_same(models: dict[str, Any]) -> None:
    """ComfyUI caches the guider and hands the same object to the next run."""
    shared = guider(models)
    sampler, sigmas = KSamplerSelect.execute("euler").result[0], torch.tensor([1.0, 0.95, 0.8, 0.4, 0.0])
    first = sample(shared, sampler, sigmas)
    sample(shared, sampler, sigmas[2:])
    assert torch.equal(sample(shared, sampler, sigmas), first)


@pytest.mark.parametrize(
    ("inputs", "shift", "sigmas"),
    [
        ({}, 5.0, [1, 0.9375, 0.833333, 0.625, 0]),
        ({"shift": 0.0}, 8.0, [1, 0.96, 0.888889, 0.727273, 0]),
        ({"scheduler": "official_unipc"}, 5.0, [0.9998, 0.937265, 0.833055, 0.624687, 0]),
        ({"sampler": "uni_pc"}, 5.0, [1, 0.952381, 0.882353, 0.769231, 0]),
        ({"denoise": 0.5, "steps": 2}, 5.0, [0.833333, 0.625, 0]),
    ],
)
def test_schedules(models: dict[str, Any], inputs: dict[str, Any], shift: float, sigmas: list[float]) -> None:
    output = Schedule.execute(models["high_noise"], **{**SCHEDULE, **inputs})
    assert output.args[0].tolist() == pytest.approx(sigmas, abs=1e-5)
    assert output.ui["wan_relay"][0]["shift"] == shift


def test_a_shift_that_is_replaced_is_said(models: dict[str, Any]) -> None:
    own = {"high_noise": with_shift(models["high_noise"], 8.0)}
    given = {**GUIDER, **models, **own, "positive": conditioning(3), "negative": conditioning(4)}
    assert Guider.execute(**given).ui["wan_relay"] == [
        {"warnings": ["shift 5 replaces the 8 that is set on high_noise; shift 0 keeps it."]}
    ]
    assert Guider.execute(**(given | {"shift": 0.0})).ui["wan_relay"] == [{"warnings": []}]


def test_the_guider_refuses_a_pair_that_does_not_belong_together(models: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="two experts of one pair"):
        guider(models, low_noise=tiny_wan("t2v"))
    with pytest.raises(InvalidInput, match="positive must carry a start or end image"):
        guider(models, positive=conditioning(3, image=False))


@pytest.mark.parametrize("sampler", ["uni_pc", "uni_pc_bh2"])
def test_the_sigmas_that_come_in_stay_as_they_are_for_the_next_run(models: dict[str, Any], sampler: str) -> None:
    """ComfyUI keeps a node's output, and gives the same tensor to the run after."""
    sigmas = Schedule.execute(models["high_noise"], **{**SCHEDULE, "sampler": sampler}).args[0]
    before = sigmas.clone()
    sample(guider(models), KSamplerSelect.execute(sampler).result[0], sigmas)
    assert torch.equal(sigmas, before)


def test_a_switch_step_beyond_the_sigmas_is_refused_when_they_are_known(models: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="switch_step must be between 0 and the number of steps, which is 3, not 4"):
        sample(
            guider(models, switch="step", switch_step=4),
            KSamplerSelect.execute("euler").result[0],
            torch.tensor([1.0, 0.9, 0.5, 0.0]),
        )
