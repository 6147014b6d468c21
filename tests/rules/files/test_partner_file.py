"""The other half of every real LoRA pair that is known here, found among all of them."""

import re

import pytest
from wan_relay.nodes.rules.files.partner_file import first_pair, offered_expert, partner_of

# The names as they are published (Comfy-Org, lightx2v, Kijai, vita-epfl, ostris, alibaba-pai, civitai).
# `[H|L]` stands for the two names of a pair, the high-noise one first.
REAL_PAIRS = [
    "wan2.2_i2v_lightx2v_4steps_lora_v1_[high|low]_noise.safetensors",
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_[high|low]_noise.safetensors",
    "wan2.2_i2v_A14b_[high|low]_noise_lora_rank64_lightx2v_4step_1022.safetensors",
    "wan2.2_t2v_A14b_[high|low]_noise_lora_rank64_lightx2v_4step_1217.safetensors",
    "Wan_2_2_I2V_A14B_[HIGH|LOW]_lightx2v_4step_lora_260412_rank_64_fp16.safetensors",
    "Wan_2_2_I2V_A14B_[HIGH|LOW]_lightx2v_4step_lora_260412_rank_256_fp16.safetensors",
    "Wan22_A14B_T2V_[HIGH|LOW]_Lightning_4steps_lora_250928_rank[128|64]_fp16.safetensors",
    "Wan22-I2V-A14B-[HIGH|LOW]-rCM[6_0|1_0]_lora_rank_64_bf16.safetensors",
    "SVI_v2_PRO_Wan2.2-I2V-A14B_[HIGH|LOW]_lora_rank_128_fp16.safetensors",
    "Wan2.2-Lightning/Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1/[high|low]_noise_model.safetensors",
    "Wan2.2-Lightning/Wan2.2-T2V-A14B-4steps-lora-rank64-Seko-V1.1/[high|low]_noise_model.safetensors",
    "Wan2.2-Fun-A14B-InP-[high|low]-noise-HPS2.1.safetensors",
    "wan22_14b_i2v_orbit_shot_lora_[high|low]_noise.safetensors",
    "WAN2.2-[High|Low]Noise_SmartphoneSnapshotPhotoReality_v3_by-AI_Characters.safetensors",
    "Instagirlv2.0_[hi|low]noise.safetensors",
    "video_surf_000000100_[high|low]_noise.safetensors",
]
ALL = [re.sub(r"\[([^|]*)\|([^]]*)\]", rf"\{half}", pair) for pair in REAL_PAIRS for half in (1, 2)]
SINGLE = ["wan2.1_lora_rank64.safetensors", "style_high_res.safetensors", "orbit.safetensors"]


@pytest.mark.parametrize("index", range(len(ALL)))
def test_real_pairs_find_each_other(index: int) -> None:
    assert partner_of(ALL[index], [*ALL, *SINGLE]) == ALL[index ^ 1]


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_no_half_has_no_partner(name: str) -> None:
    assert partner_of(name, [*ALL, *SINGLE]) is None


@pytest.mark.parametrize(
    ("name", "names", "partner"),
    [
        ("style_high.safetensors", ["style_low.safetensors"], "style_low.safetensors"),
        ("style_high.safetensors", ["Style_LOW.safetensors"], "Style_LOW.safetensors"),
        ("styleHigh.safetensors", ["styleLow.safetensors"], "styleLow.safetensors"),
        ("style-H-e8.safetensors", ["style-L-e8.safetensors"], "style-L-e8.safetensors"),
        ("style_high_e20.safetensors", ["style_low_e35.safetensors"], "style_low_e35.safetensors"),
        ("a\\style_high.safetensors", ["b\\style_low.safetensors"], "b\\style_low.safetensors"),
        ("high/style.safetensors", ["low/style.safetensors", "low/other.safetensors"], "low/style.safetensors"),
        ("a/style_high.safetensors", ["a/style_low.safetensors", "b/style_low.safetensors"], "a/style_low.safetensors"),
        # The same rank wins over another one, and two that are equally close are no answer.
        ("s_high_r_rank_64.sft", ["s_low_r_rank_32.sft", "s_low_r_rank_64.sft"], "s_low_r_rank_64.sft"),
        ("s_high_r_rank_64.sft", ["s_low_r_rank_32.sft", "s_low_r_rank_16.sft"], None),
        ("a/s_high.sft", ["b/s_low.sft", "c/s_low.sft"], None),
        # Another style, version, task, number of steps, or a pair that is told apart by its folder alone.
        ("style_high.safetensors", ["other_low.safetensors", "style_high.safetensors"], None),
        ("style_v1_high.safetensors", ["style_v2_low.safetensors"], None),
        ("wan22_i2v_high_4steps.safetensors", ["wan22_t2v_low_4steps.safetensors"], None),
        ("wan22_high_4steps.safetensors", ["wan22_low_8steps.safetensors"], None),
        ("a/high_noise_model.safetensors", ["b/low_noise_model.safetensors"], None),
        ("low_angle_high.safetensors", ["low_angle_low.safetensors"], "low_angle_low.safetensors"),
        ("low_angle_high.safetensors", ["high_angle_low.safetensors"], None),
        ("style_high.safetensors", [], None),
        ("", ["style_low.safetensors"], None),
    ],
)
def test_the_closest_name_or_none(name: str, names: list[str], partner: str | None) -> None:
    assert partner_of(name, names) == partner


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["vae.sft", "b_low.sft", "a_high.sft", "b_high.sft"], ("b_high.sft", "b_low.sft")),
        (["a_high.sft", "b_low.sft"], None),
        ([], None),
    ],
)
def test_the_first_pair_of_a_list(names: list[str], pair: tuple[str, str] | None) -> None:
    assert first_pair(names) == pair


def test_an_expert_that_stands_alone_or_beside_another_is_offered_its_partner() -> None:
    names = ["a_high.sft", "a_low.sft", "b_low.sft"]
    offer = [{"input": "low_noise", "file": "a_low.sft"}]
    assert offered_expert("a_high.sft", "none", names) == offer
    assert offered_expert("a_high.sft", "b_low.sft", names) == offer
    assert offered_expert("a_high.sft", "a_high.sft", names) == offer
    assert offered_expert("b_low.sft", "a_low.sft", names) == [{"input": "high_noise", "file": "a_high.sft"}]
    assert offered_expert("a_high.sft", "a_low.sft", names) == []
    assert offered_expert("b_low.sft", "a_high.sft", names) == []
