"""The recommended settings of each family, recognised by real file names."""

import re

import pytest
from wan_relay.nodes.rules.relay.presets import ALSO_GOOD, PRESETS, Recognised, recognise_pair


def pair(name: str) -> tuple[str, str]:
    """`[H|L]` stands for the words of the two names."""
    high, low = (re.sub(r"\[([^|]*)\|([^]]*)\]", rf"\{half}", name) for half in (1, 2))
    return f"{high}.safetensors", f"{low}.safetensors"


DASIWA = pair("DasiwaWAN22I2V14BLightspeed_snatchkiss[High|Low]V11")
REMIX = pair("Wan2.2_Remix_NSFW_i2v_14b_[high|low]_lighting_v3.0")
BASE = pair("wan2.2_i2v_[high|low]_noise_14B_fp8_scaled")
BASE_T2V = pair("wan2.2_t2v_[high|low]_noise_14B_fp8_scaled")
LIGHTX2V = pair("Wan_2_2_I2V_A14B_[HIGH|LOW]_lightx2v_4step_lora_260412_rank_64_fp16")
SEKO = pair("Seko-V1-4steps/[high|low]_noise_model")
RCM = pair("Wan22-I2V-A14B-[HIGH|LOW]-rCM[6_0|1_0]_lora_rank_64_bf16")
RCM_MERGED = pair("Wan22-I2V-A14B-[HIGH|LOW]-rCM-merged")
SVI = pair("SVI_v2_PRO_Wan2.2-I2V-A14B_[HIGH|LOW]_lora_rank_128_fp16")
STYLE = pair("style_[high|low]")
NO_LIGHTNING = pair("wan22EnhancedNSFWSVICamera_nolightningSVICfFp8[H|L]")
TI2V = ("wan2.2_ti2v_5B_fp16.safetensors", None)


@pytest.mark.parametrize(
    ("kind", "experts", "pairs", "preset", "told_by"),
    [
        ("i2v", DASIWA, [], "dasiwa", DASIWA[0]),
        ("i2v", DASIWA, [STYLE], "dasiwa", DASIWA[0]),
        ("i2v", DASIWA, [STYLE, SVI], "svi", SVI[0]),
        ("i2v", REMIX, [], "four_steps", REMIX[0]),
        ("i2v", BASE, [LIGHTX2V], "four_steps", LIGHTX2V[0]),
        ("i2v", BASE, [STYLE, SEKO], "four_steps", SEKO[0]),
        ("i2v", BASE, [LIGHTX2V, SVI], "svi", SVI[0]),
        ("i2v", BASE, [RCM], "rcm", RCM[0]),
        ("i2v", RCM_MERGED, [], "rcm", RCM_MERGED[0]),
        ("i2v", BASE, [], "i2v_reference", BASE[0]),
        ("i2v", BASE, [STYLE], "i2v_reference", BASE[0]),
        ("i2v", NO_LIGHTNING, [], "i2v_reference", NO_LIGHTNING[0]),
        ("i2v", BASE, [SVI], "i2v_reference", BASE[0]),
        ("t2v", BASE_T2V, [], "t2v_reference", BASE_T2V[0]),
        ("t2v", BASE_T2V, [LIGHTX2V], "four_steps", LIGHTX2V[0]),
        ("ti2v_5b", TI2V, [], "ti2v_5b_reference", TI2V[0]),
    ],
)
def test_each_family_is_recognised(kind, experts, pairs, preset, told_by) -> None:
    high_loras, low_loras = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert recognise_pair(kind, *experts, high_loras, low_loras) == Recognised(preset, told_by)


@pytest.mark.parametrize(
    ("kind", "experts", "loras"),
    [
        ("i2v", (DASIWA[0], BASE[1]), ([], [])),
        ("i2v", BASE, ([LIGHTX2V[0]], [])),
        ("i2v", BASE, ([], [LIGHTX2V[1]])),
        ("ti2v_5b", ("wan2.2_ti2v_5B_turbo.safetensors", None), ([], [])),
        ("s2v", BASE, ([], [])),
    ],
)
def test_what_is_no_whole_pair_has_no_preset(kind, experts, loras) -> None:
    assert recognise_pair(kind, *experts, *loras) is None


@pytest.mark.comfy
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_set_and_makes_the_schedule_that_its_author_means(name: str) -> None:
    from wan_relay.nodes.engine.relay.sigma_schedule import plan_schedule
    from wan_relay.nodes.sample import Sample

    declared = Sample.GET_NODE_INFO_V1()["input"]["required"]
    settings = PRESETS[name]
    also = [(key, value) for key, values in ALSO_GOOD.get(name, {}).items() for value in values]
    for key, value in [*settings.items(), *also]:
        options = declared[key][1]
        assert value in options["options"] if "options" in options else options["min"] <= value <= options["max"], key
    asked = {key: value for key, value in settings.items() if not key.endswith("_cfg")}
    plan = plan_schedule(**{"shift": 5.0, **asked}, num_experts=1 if name.startswith("ti2v") else 2)
    split = {"dasiwa": (2, 2), "four_steps": (2, 2), "svi": (3, 3), "rcm": (2, 2), "i2v_reference": (15, 25)}
    split |= {"t2v_reference": (26, 14)}
    if name in split:
        assert (plan["n_high"], plan["n_low"]) == split[name]
    first = {"dasiwa": [1, 0.9875, 0.975, 0.725, 0], "four_steps": [1, 0.9375, 0.8333, 0.625, 0]}.get(name)
    if first:
        assert plan["sigmas"] == pytest.approx(first, abs=1e-4)
