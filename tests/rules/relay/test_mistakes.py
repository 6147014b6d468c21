"""What a graph does wrong though it would run: each rule on its own, and none where people work on purpose."""

from dataclasses import replace
from typing import Any

import pytest
from wan_relay.nodes.rules.files.expert_kind import I2V, T2V, TI2V_5B
from wan_relay.nodes.rules.relay.mistakes import Mistake, Sampling, latent_mistakes, sampling_mistakes
from wan_relay.nodes.rules.relay.presets import PRESETS

BASE = Sampling(I2V, (False, False), True, steps=40, high_noise_cfg=3.5, low_noise_cfg=3.5)
DISTILLED = Sampling(I2V, (True, True), True, steps=4, high_noise_cfg=1, low_noise_cfg=1)
NO_LOW = {"is_distilled": (False, False), "has_low_noise": False}


@pytest.mark.parametrize(
    ("plan", "changes", "mistakes"),
    [
        (BASE, {}, []),
        (BASE, {"steps": 15}, []),
        (BASE, {"steps": 14}, [{"mistake": "few_steps", "steps": 14}]),
        (BASE, {"high_noise_cfg": 1, "low_noise_cfg": 1}, [{"mistake": "no_guidance"}]),
        (BASE, {"low_noise_cfg": 1}, []),
        (BASE, NO_LOW, [{"mistake": "one_expert"}]),
        (BASE, {"kind": TI2V_5B, **NO_LOW, "low_noise_cfg": 1}, []),
        (BASE, {"kind": TI2V_5B, **NO_LOW, "steps": 4}, [{"mistake": "few_steps", "steps": 4}]),
        (BASE, {"is_distilled": (False, True), "low_noise_cfg": 1, "steps": 8}, []),
        (DISTILLED, {}, []),
        (DISTILLED, {"high_noise_cfg": 2}, []),
        (DISTILLED, {"high_noise_cfg": 3.5}, [{"mistake": "guided_high_noise", "cfg": 3.5}]),
        (DISTILLED, {"low_noise_cfg": 3.5}, [{"mistake": "guided_low_noise", "cfg": 3.5}]),
        (DISTILLED, {"has_negative": True}, [{"mistake": "negative_unused"}]),
        (DISTILLED, {"has_negative": True, "has_nag": True}, []),
        (DISTILLED, {"has_negative": True, "opening_cfgs": (3.5,)}, []),
        (DISTILLED, {"has_negative": True, "low_noise_cfg": 1.5}, []),
        (DISTILLED, {"has_negative": True, "has_low_noise": False, "kind": TI2V_5B, "low_noise_cfg": 9},
         [{"mistake": "negative_unused"}]),
    ],
)  # fmt: skip
def test_sampling(plan: Sampling, changes: dict[str, Any], mistakes: list[Mistake]) -> None:
    assert sampling_mistakes(replace(plan, **changes)) == mistakes


@pytest.mark.parametrize("name", PRESETS)
def test_what_authors_recommend_is_no_mistake(name: str) -> None:
    kind = {"t2v_reference": T2V, "ti2v_5b_reference": TI2V_5B}.get(name, I2V)
    is_distilled = not name.endswith("reference")
    of_high_noise = is_distilled and name != "base_high"
    settings = {key: PRESETS[name].get(key, 1.0) for key in ("steps", "high_noise_cfg", "low_noise_cfg")}
    plan = Sampling(kind, (of_high_noise, is_distilled), kind != TI2V_5B, **settings)  # type: ignore[arg-type]
    assert sampling_mistakes(plan) == []


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ((I2V, False, True, False, 1), []),
        ((I2V, False, False, True, 1), []),
        ((I2V, False, False, False, 1), ["i2v_without_image"]),
        ((I2V, True, True, False, 1), ["vae_of_5b"]),
        ((T2V, False, False, False, 1), []),
        ((T2V, None, True, False, 1), ["t2v_with_image"]),
        ((T2V, None, False, True, 1), ["t2v_with_image"]),
        ((TI2V_5B, True, False, False, 1), []),
        ((TI2V_5B, False, True, False, 1), ["vae_of_a14b"]),
        ((TI2V_5B, None, True, True, 1), ["end_image_5b"]),
        ((None, True, False, True, 1), ["end_image_5b"]),
        ((None, None, True, True, 1), []),
        ((None, None, False, False, 2), ["one_file"]),
        ((I2V, False, True, False, 1, True), ["loop_shown_twice"]),
        ((None, None, False, False, 2, False, 2), []),
        ((None, None, False, False, 2, False, 3), ["other_videos"]),
        ((None, None, False, False, 1, False, 2), ["other_videos"]),
        ((None, None, False, False, 2, False, 2, 2), []),
        ((None, None, False, False, 2, False, 2, 1), ["other_interpolated_videos"]),
        ((None, None, False, False, 1, False, 1, 2), ["other_interpolated_videos"]),
    ],
)
def test_latent(arguments: tuple[Any, ...], keys: list[str]) -> None:
    assert [each["mistake"] for each in latent_mistakes(*arguments)] == keys
