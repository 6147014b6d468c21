"""Which file of a list a name that is not in it probably means."""

import pytest
from wan_relay.nodes.rules.files.close_name import closest_name, not_in_list

FILES = [
    "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors",
    "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
    "wan22/DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors",
    "wan22/DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors",
    "windows\\style_high.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "old/umt5_xxl_fp16.safetensors",
    "wan_2.1_vae.safetensors",
]


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("wan22\\DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors", FILES[2]),
        ("DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors", FILES[3]),
        ("models/dasiwawan22i2v14blightspeed_synthseductionlowv9.safetensors", FILES[3]),
        ("DasiwaWAN22I2V14BLightspeed_synthseductionHighV8.safetensors", FILES[2]),
        ("windows/style_high.safetensors", FILES[4]),
        ("wan2.2_i2v_high_noise_14B_fp8_scaled", FILES[0]),
        ("wan2.2_i2v_high_noise_14B_fp8.safetensors", FILES[0]),
        ("wan2.2-i2v-low-noise-14B-fp8-scaled.safetensors", FILES[1]),
        ("umt5_xxl_fp16.safetensors", FILES[6]),
        ("umt5-xxl-fp8-e4m3fn-scaled.safetensors", FILES[5]),
        ("wan_2.1.vae.safetensors", FILES[7]),
        ("flux1-dev.safetensors", None),
        ("", None),
        ("x" * 1_000_000, None),
    ],
)
def test_the_closest_name(name: str, closest: str | None) -> None:
    assert closest_name(name, FILES) == closest


def test_a_name_is_never_answered_with_the_other_expert() -> None:
    assert closest_name("wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors", FILES[1:2]) is None
    assert closest_name("wan2.2_i2v_14B_fp8_scaled.safetensors", FILES[1:2]) == FILES[1]


def test_the_sentence_lists_a_few_names_and_counts_many() -> None:
    assert not_in_list("low_noise", "a.safetensors", ["b.pt"]) == "low_noise: 'a.safetensors' not in ['b.pt']"
    assert not_in_list("low_noise", "wan22\\x.sft", ["wan22/x.sft", "y.sft"]) == (
        "low_noise: 'wan22\\x.sft' not in ['wan22/x.sft', 'y.sft']; the closest name there is 'wan22/x.sft'"
    )
    many = [f"{number:04}.safetensors" for number in range(20)] + ["sub/style.safetensors"]
    assert not_in_list("high_noise_lora", "style.safetensors", many) == (
        "high_noise_lora: 'style.safetensors' not in (list of length 21); the closest name there is "
        "'sub/style.safetensors'"
    )
    assert not_in_list("high_noise_lora", "y" * 1000, many) == (
        f"high_noise_lora: '{'y' * 199}…' not in (list of length 21)"
    )
