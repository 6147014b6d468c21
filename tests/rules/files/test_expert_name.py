"""Every real name that is known here, with what it tells: which expert it is, and whether for a few steps."""

import re

import pytest
from wan_relay.nodes.rules.files.expert_name import (
    expert_from_name,
    is_distilled_file,
    is_distilled_name,
    is_wan_2_1_name,
)

HIGH, LOW = "high_noise", "low_noise"

# `[H|L]` stands for the two names of a pair, the high-noise one first -> made for a few steps
REAL_PAIRS = {
    "DasiwaWAN22I2V14BV8V1_tastysin[High|Low]V81.safetensors": True,
    "DasiwaWAN22I2V14BV8V1_midnightflirt[High|Low]V7.safetensors": True,
    "DasiwaWAN22I2V14BLightspeed_midnightflirt[High|Low].safetensors": True,
    "DasiwaWAN22I2V14BLightspeed_midnightflirt[High|Low]V7.safetensors": True,
    "DasiwaWAN22I2V14BLightspeed_synthseduction[High|Low]V9.safetensors": True,
    "DasiwaWAN22I2V14BLightspeed_boundbite[High|Low]V10.safetensors": True,
    "DasiwaWAN22I2V14BLightspeed_snatchkiss[High|Low]V11.safetensors": True,
    "DaSiWa_Wan22_I2V_14B_SnatchKiss_v11_[HIGH|LOW]_fp8_mixed.safetensors": True,
    "DaSiWa_Wan22_I2V_14B_SnatchKiss_v11_[HIGH|LOW]_int8_row-wise_convrot_runtime_mixed.safetensors": True,
    "[High|Low]Noise/dasiwaWAN22I2V14B_midnightflirt[High|Low]-Q8_0.gguf": True,
    "dasiwaWAN22I2V14B_midnightflirt[High|Low]-Q3_K_M.gguf": True,
    "DasiwaWan22I2V14B_q8[High|Low].gguf": True,
    "TastysinV8_q8[High|Low].gguf": True,
    "TastySin-[HIGH|LOW]-v8.1.safetensors": True,
    "wan22-DaSiWa-i2v_MidnightFlirt_[High|Low]_V7.safetensors": True,
    "Wan2_2-I2V-[H|L]-LS-DaSiWa-v10.safetensors": True,
    "smoothMixWan22I2VT2V_i2v[High|Low].safetensors": True,
    "smoothMixWan22I2VT2V_i2v[High|Low]-Q8_0.gguf": True,
    "smoothMixWan22I2V14B_i2v[High|Low].safetensors": True,
    "smoothMixWan2214BI2V_i2vV20[High|Low].safetensors": True,
    "smoothMixWan2214BI2V_t2v[High|Low]V40.safetensors": True,
    "SmoothMix_I2V_v2_[High|Low].safetensors": True,
    "Wan2.2_Remix_NSFW_i2v_14b_[high|low]_lighting_v2.0.safetensors": True,
    "Wan2.2_Remix_NSFW_i2v_14b_[high|low]_lighting_v3.0.safetensors": True,
    "Wan2.2_Remix_NSFW_i2v_14b_[high|low]_lighting_fp8_e4m3fn_v2.1.safetensors": True,
    "Wan2.2_Remix_NSFW_i2v_14b_[high|low]_lighting_fp8_e4m3fn_v3.0.safetensors": True,
    "Wan2.2_Remix_NSFW_t2v_14b_[high|low]_lighting_v2.0.safetensors": True,
    "wan22RemixT2VI2V_i2v[High|Low]V20.safetensors": True,
    "wan22RemixT2VI2V_i2v[High|Low]V30.safetensors": True,
    "wan22RemixT2VI2V_i2v[High|Low]V30-Q5_K_M.gguf": True,
    "I2V/v3.0/[High|Low]/wan22RemixT2VI2V_i2v[High|Low]V30-Q8_0.gguf": True,
    "wan22EnhancedNSFWSVICamera_nsfwFASTMOVEV2Q8[H|L].gguf": True,
    "wan22EnhancedNSFWSVICamera_nsfwFASTMOVEV2FP8[H|L].safetensors": True,
    "wan22EnhancedNSFWCameraPrompt_nsfwFASTMOVEV2Q4KM[H|L].gguf": True,
    "wan22EnhancedNSFWCameraPrompt_nsfwFASTMOVEV2Q6K[H|L].gguf": True,
    "wan22-EnhancedNSFW_FastMove_fp8_[High|Low]_V2.safetensors": True,
    "wan22EnhancedNSFWSVICamera_nolightningSVICfQ8[H|L].gguf": False,
    "wan22EnhancedNSFWSViCamera_nolightningSVICfQ4KM[H|L].gguf": False,
    "wan22EnhancedCamera_nolightningSVICfFp8[H|L].safetensors": False,
    "wan22-i2v-something-FP8[H|L].safetensors": False,
    "wan2.2_i2v_A14b_[high|low]_noise_lightx2v_4step.safetensors": True,
    "wan2.2_i2v_A14b_[high|low]_noise_lightx2v_4step_1030.safetensors": True,
    "wan2.2_i2v_A14b_[high|low]_noise_lightx2v_4step_720p_260412.safetensors": True,
    "wan2.2_i2v_A14b_[high|low]_noise_scaled_fp8_e4m3_lightx2v_4step_comfyui_1030.safetensors": True,
    "wan2.2_i2v_A14b_[high|low]_noise_lora_rank64_lightx2v_4step_1022.safetensors": True,
    "wan2.2_t2v_A14b_[high|low]_noise_lora_rank64_lightx2v_4step_1217.safetensors": True,
    "Wan_2_2_I2V_A14B_[HIGH|LOW]_lightx2v_4step_lora_260412_rank_64_fp16.safetensors": True,
    "Wan_2_2_I2V_A14B_[HIGH|LOW]_lightx2v_4step_lora_260412_rank_256_fp16.safetensors": True,
    "wan2.2_i2v_lightx2v_4steps_lora_v1_[high|low]_noise.safetensors": True,
    "Wan22_A14B_T2V_[HIGH|LOW]_Lightning_4steps_lora_250928_rank128_fp16.safetensors": True,
    "Wan22_A14B_T2V_[HIGH|LOW]_Lightning_4steps_lora_250928_rank64_fp16.safetensors": True,
    "Wan2.2-Lightning/Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1/[high|low]_noise_model.safetensors": True,
    "Wan22-I2V-A14B-[HIGH|LOW]-rCM6_0_lora_rank_64_bf16.safetensors": True,
    "Wan22-I2V-A14B-[HIGH|LOW]-rCM1_0_lora_rank_64_bf16.safetensors": True,
    "Wan22-I2V-A14B-[HIGH|LOW]-rCM-merged.safetensors": True,
    "TurboWan2.2-I2V-A14B-[high|low]-720P.pth": True,
    "TurboWan2.2-I2V-A14B-[high|low]-720P-quant.pth": True,
    "SVI_v2_PRO_Wan2.2-I2V-A14B_[HIGH|LOW]_lora_rank_128_fp16.safetensors": False,
    "wan2.2_i2v_[high|low]_noise_14B_fp16.safetensors": False,
    "wan2.2_i2v_[high|low]_noise_14B_fp8_scaled.safetensors": False,
    "wan2.2_i2v_[high|low]_noise_14B_Q4_K_M.gguf": False,
    "wan2.2_i2v_[high|low]_noise_14B_Q3_K_L.gguf": False,
    "[High|Low]Noise/Wan2.2-I2V-A14B-[High|Low]Noise-Q4_K_M.gguf": False,
    "[High|Low]Noise/Wan2.2-I2V-A14B-[High|Low]Noise-Q3_K_L.gguf": False,
    "Wan2_2-I2V-A14B-[HIGH|LOW]_fp8_e4m3fn_scaled_KJ.safetensors": False,
    "Wan2_2-I2V-A14B-[HIGH|LOW]_fp8_e5m2_scaled_KJ.safetensors": False,
    "wan2.2_fun_control_[high|low]_noise_14B.safetensors": False,
    "[high|low]_noise_model/diffusion_pytorch_model.safetensors": False,
    "[high|low]_noise_model\\diffusion_pytorch_model.safetensors": False,
    "[High|Low]Noise/model.safetensors": False,
}

# Names of one model, or of a pair that the name does not tell apart -> the expert, made for a few steps
REAL_NAMES = {
    "wan2.2_ti2v_5B_fp16.safetensors": (None, False),
    "Wan2.2-I2V-A14B-Q3_K_L.gguf": (None, False),
    "wan2.1_t2v_14B_fp16.safetensors": (None, False),
}

TRAPS = {
    "wan22_slow_motion.safetensors": None,
    "slow-noise.safetensors": None,
    "highway_flow_v2.safetensors": None,
    "wan22_shallowdepth.safetensors": None,
    "wan22_high_low_merge.safetensors": None,
    "wan22_high_and_low_noise.safetensors": None,
    "wan22_high_res.safetensors": None,
    "wan22_highRes.safetensors": None,
    "wan22-low-vram.safetensors": None,
    "wan22_lowVram_high_noise.safetensors": HIGH,
    "low_cfg_wan22.safetensors": None,
    "low_steps.safetensors": None,
    "high quality lora.safetensors": None,
    "low_angle_shot_high_noise.safetensors": HIGH,
    "lowAngle.safetensors": None,
    "LOWnoise_v2.safetensors": LOW,
    "wan22HIGHV2.safetensors": HIGH,
    "Wan2.2_Q3_K_XL.gguf": None,
    "wan22_low_lighting.safetensors": None,
    "wan2.2_i2v_14b_low_lighting_v1.safetensors": None,
    "cinematic_high_lighting_remix.safetensors": None,
    "Wan2.2-I2V-Q3KL.gguf": None,
    "Wan2.2-I2V-Q3KSL.gguf": LOW,
    "L.safetensors": LOW,
    "high.safetensors": HIGH,
    "": None,
}


def facts(name: str) -> tuple[str | None, bool]:
    return expert_from_name(name), is_distilled_file(name)


@pytest.mark.parametrize("pair", REAL_PAIRS)
def test_both_names_of_a_real_pair(pair: str) -> None:
    high, low = (re.sub(r"\[(\w+)\|(\w+)\]", rf"\{side}", pair) for side in (1, 2))
    distilled = REAL_PAIRS[pair]
    assert (facts(high), facts(low)) == ((HIGH, distilled), (LOW, distilled))


@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_names_that_name_no_expert(name: str) -> None:
    assert facts(name) == REAL_NAMES[name]


@pytest.mark.parametrize("name", TRAPS)
def test_words_that_only_look_like_an_expert(name: str) -> None:
    assert expert_from_name(name) == TRAPS[name]


@pytest.mark.parametrize(
    "name",
    [
        "DasiwaWAN22I2V14BV8V1_tastysinHighV81",
        "TastySin-HIGH-v8.1",
        "DaSiWa_Wan22_I2V_14B_SnatchKiss_v11_HIGH_fp8_mixed",
        "wan2.2_i2v_A14b_high_noise_lightx2v_4step_1030",
        "smoothMixWan22I2VT2V_i2vHigh",
        "SmoothMix_I2V_v2_High",
        "Wan22_A14B_T2V_HIGH_Lightning_4steps_lora_250928_rank128_fp16",
        "wan22_14B_Lightspeed",
        "toy_wan2.2_i2v_high_noise_4step",
        "wan2.2_i2v_8-steps",
        "kimono_lightning",
        "Wan-2.2-Remix v3.0",
        "Wan2.2 I2V rCM",
    ],
)
def test_names_of_models_for_a_few_steps(name: str) -> None:
    assert is_distilled_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "wan2.2_i2v_high_noise_14B_fp16",
        "Wan2_2-I2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ",
        "Wan2.2-I2V-A14B-HighNoise-Q4_K_M",
        "character_lora_14steps_of_training",
        "backstep",
        "wan_1000steps",
        "wan22EnhancedCamera_nolightningSVICfFp8H",
        "wan22_high_no-lightning",
        "wan22_non_distilled",
        "wan22Enhanced_FASTMOVE_nolightning",
        "dance_remix_wan22_high",
        "fast_movement_high",
        "fastmoves_high",
        "fRCMap",
        "arcmotion_wan22",
        "wan22_low_lighting",
    ],
)
def test_names_of_other_models(name: str) -> None:
    assert not is_distilled_name(name)


@pytest.mark.parametrize(
    ("path", "distilled"),
    [
        ("/models/loras/Lightning/high_noise_model.safetensors", True),
        ("/models/loras/lightx2v/4steps/low_noise_lora_fp16.safetensors", True),
        ("4step\\HighNoise\\model.safetensors", True),
        ("Lightning/high.gguf", True),
        ("Lightning/v2/high_noise_model.safetensors", True),
        ("Lightning/style/high_noise_model.safetensors", False),
        ("Lightning/wan2.2_i2v_high_noise_14B_fp16.safetensors", False),
        ("Lightning/wan22_nolightning_high.safetensors", False),
        ("/mnt/turbo/loras/high_noise_model.safetensors", False),
        ("high_noise_model.safetensors", False),
        ("Wan2.2-Lightning-GGUF/high_noise-Q4_K_M.gguf", True),
        ("Wan2.2-Lightning/high_noise_fp8_e4m3fn_scaled.safetensors", True),
        ("Lightning/水墨_high_noise.safetensors", False),
        ("", False),
    ],
)
def test_folders_tell_of_a_few_steps_where_the_name_says_nothing(path: str, distilled: bool) -> None:
    assert is_distilled_file(path) == distilled


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wan2.1_t2v_14B_fp16", True),
        ("Wan2_1-T2V-14B_fp8_e4m3fn", True),
        ("wan21_t2v", True),
        ("wan2.2_t2v_high_noise_14B", False),
        ("wan2.11", False),
        ("Wan22_A14B_v2.1", False),
    ],
)
def test_wan_2_1_names(name: str, expected: bool) -> None:
    assert is_wan_2_1_name(name) == expected
