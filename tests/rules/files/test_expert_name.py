import pytest
from wan_relay.nodes.rules.files.expert_name import expert_from_name, is_distilled_name, is_wan_2_1_name

HIGH, LOW = "high_noise", "low_noise"

REAL_NAMES = {
    "wan2.2_i2v_high_noise_14B_fp16.safetensors": HIGH,
    "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors": LOW,
    "wan2.2_ti2v_5B_fp16.safetensors": None,
    "HighNoise/Wan2.2-I2V-A14B-HighNoise-Q4_K_M.gguf": HIGH,
    "LowNoise/Wan2.2-I2V-A14B-LowNoise-Q3_K_L.gguf": LOW,
    "Wan2.2-I2V-A14B-Q3_K_L.gguf": None,
    "wan2.2_i2v_high_noise_14B_Q4_K_M.gguf": HIGH,
    "wan2.2_i2v_low_noise_14B_Q3_K_L.gguf": LOW,
    "wan2.2_i2v_A14b_high_noise_lightx2v_4step.safetensors": HIGH,
    "wan2.2_i2v_A14b_low_noise_lightx2v_4step_1030.safetensors": LOW,
    "wan2.2_i2v_A14b_high_noise_scaled_fp8_e4m3_lightx2v_4step_comfyui_1030.safetensors": HIGH,
    "TastySin-HIGH-v8.1.safetensors": HIGH,
    "TastySin-LOW-v8.1.safetensors": LOW,
    "DasiwaWAN22I2V14BV8V1_tastysinHighV81.safetensors": HIGH,
    "DasiwaWAN22I2V14BV8V1_tastysinLowV81.safetensors": LOW,
    "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors": HIGH,
    "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors": LOW,
    "DasiwaWAN22I2V14BLightspeed_boundbiteHighV10.safetensors": HIGH,
    "DasiwaWAN22I2V14BLightspeed_boundbiteLowV10.safetensors": LOW,
    "DasiwaWAN22I2V14BLightspeed_snatchkissHighV11.safetensors": HIGH,
    "DaSiWa_Wan22_I2V_14B_SnatchKiss_v11_HIGH_fp8_mixed.safetensors": HIGH,
    "DaSiWa_Wan22_I2V_14B_SnatchKiss_v11_LOW_int8_row-wise_convrot_runtime_mixed.safetensors": LOW,
    "DasiwaWan22I2V14B_q8High.gguf": HIGH,
    "DasiwaWan22I2V14B_q8Low.gguf": LOW,
    "smoothMixWan22I2VT2V_i2vHigh.safetensors": HIGH,
    "smoothMixWan22I2VT2V_i2vLow.safetensors": LOW,
    "smoothMixWan2214BI2V_i2vV20High.safetensors": HIGH,
    "smoothMixWan2214BI2V_i2vV20Low.safetensors": LOW,
    "SmoothMix_I2V_v2_High.safetensors": HIGH,
    "Wan2_2-I2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors": HIGH,
    "Wan2_2-I2V-A14B-LOW_fp8_e5m2_scaled_KJ.safetensors": LOW,
    "wan22EnhancedCamera_nolightningSVICfFp8H.safetensors": HIGH,
    "wan22EnhancedCamera_nolightningSVICfFp8L.safetensors": LOW,
    "wan22-i2v-something-FP8H.safetensors": HIGH,
    "wan22-i2v-something-FP8L.safetensors": LOW,
    "Wan2_2-I2V-H-LS-DaSiWa-v10.safetensors": HIGH,
    "Wan2_2-I2V-L-LS-DaSiWa-v10.safetensors": LOW,
    "Wan2.2-Lightning/Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1/high_noise_model.safetensors": HIGH,
    "Wan2.2-Lightning/Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1/low_noise_model.safetensors": LOW,
    "wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise.safetensors": HIGH,
    "Wan22_A14B_T2V_HIGH_Lightning_4steps_lora_250928_rank128_fp16.safetensors": HIGH,
    "Wan22_A14B_T2V_LOW_Lightning_4steps_lora_250928_rank64_fp16.safetensors": LOW,
    "wan2.2_i2v_A14b_high_noise_lora_rank64_lightx2v_4step_1022.safetensors": HIGH,
    "wan2.2_t2v_A14b_low_noise_lora_rank64_lightx2v_4step_1217.safetensors": LOW,
    "high_noise_model/diffusion_pytorch_model.safetensors": HIGH,
    "HighNoise/model.safetensors": HIGH,
    "low_noise_model\\diffusion_pytorch_model.safetensors": LOW,
    "wan2.1_t2v_14B_fp16.safetensors": None,
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
    "L.safetensors": LOW,
    "high.safetensors": HIGH,
    "": None,
}


@pytest.mark.parametrize("name", [*REAL_NAMES, *TRAPS])
def test_expert_from_name(name: str) -> None:
    assert expert_from_name(name) == {**REAL_NAMES, **TRAPS}[name]


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
    ],
)
def test_names_of_other_models(name: str) -> None:
    assert not is_distilled_name(name)


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
