"""Every key style and part of LoRA files, matched with a tiny Wan network by names and shapes alone."""

import re
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.lora_files import check_lora_pair
from wan_relay.nodes.rules.files.lora_keys import LayerNames
from wan_relay.nodes.rules.files.lora_plan import LoraPlan, Misfit, Shape, plan_lora
from wan_relay.tests.tiny_models import Listing, expert_listing, write_model

NETWORK: dict[str, Shape | None] = {name: shape for name, (_, shape) in expert_listing().items()}
DIM, FFN = 8, 12
Q = "blocks.0.self_attn.q"


def low_rank(layer: str, out: int = DIM, inner: int = DIM, rank: int = 2) -> dict[str, Shape]:
    return {f"{layer}.lora_down.weight": (rank, inner), f"{layer}.lora_up.weight": (out, rank), f"{layer}.alpha": ()}


def plan(lora: dict[str, Shape], slot: str = "high_noise") -> LoraPlan:
    return plan_lora(lora, NETWORK, slot)


NATIVE_AND_DIFFUSERS = [
    ("blocks.1.self_attn.q", "blocks.1.attn1.to_q"),
    ("blocks.1.self_attn.k", "blocks.1.attn1.to_k"),
    ("blocks.1.self_attn.v", "blocks.1.attn1.to_v"),
    ("blocks.1.self_attn.o", "blocks.1.attn1.to_out.0"),
    ("blocks.1.self_attn.norm_q", "blocks.1.attn1.norm_q"),
    ("blocks.1.cross_attn.q", "blocks.1.attn2.to_q"),
    ("blocks.1.cross_attn.k", "blocks.1.attn2.to_k"),
    ("blocks.1.cross_attn.v", "blocks.1.attn2.to_v"),
    ("blocks.1.cross_attn.o", "blocks.1.attn2.to_out.0"),
    ("blocks.1.cross_attn.norm_k", "blocks.1.attn2.norm_k"),
    ("blocks.1.norm3", "blocks.1.norm2"),
    ("blocks.1.ffn.0", "blocks.1.ffn.net.0.proj"),
    ("blocks.1.ffn.2", "blocks.1.ffn.net.2"),
    ("blocks.1.modulation", "blocks.1.scale_shift_table"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.head", "proj_out"),
    ("head.modulation", "scale_shift_table"),
    ("patch_embedding", "patch_embedding"),
]
DOTTED = [
    "", "diffusion_model.", "model.diffusion_model.", "transformer.", "transformer_2.", "base_model.model.",
    "base_model.model.transformer.", "base_model.model.model.", "unet.", "pipe.dit.", "model.",
]  # fmt: skip
GLUED = ["lora_unet_", "lora_unet__", "lora_transformer_", "lora_transformer_2_", "lycoris_", "lora_diffusion_model_"]


@pytest.mark.parametrize(("native", "diffusers"), NATIVE_AND_DIFFUSERS)
def test_every_layer_under_every_name(native: str, diffusers: str) -> None:
    names = LayerNames(name.removesuffix(".weight") for name in NETWORK)
    keys = [f"{prefix}{name}.diff" for prefix in DOTTED for name in (native, diffusers)]
    keys += [f"{prefix}{name.replace('.', '_')}.diff" for prefix in GLUED for name in (native, diffusers)]
    found = {key: names.read_key(key) for key in keys}
    assert {key: meaning and meaning.for_comfyui for key, meaning in found.items()} == dict.fromkeys(
        keys, f"diffusion_model.{native}.diff"
    )


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (".lora_down.weight", ".lora_up.weight"),
        (".lora_A.weight", ".lora_B.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora_A.my_style.weight", ".lora_B.my_style.weight"),
        (".lora_A", ".lora_B"),
        (".lora.down.weight", ".lora.up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ],
)
def test_every_name_of_the_two_factors(down: str, up: str) -> None:
    assert plan({f"diffusion_model.{Q}{down}": (2, DIM), f"diffusion_model.{Q}{up}": (DIM, 2)}) == LoraPlan(
        {
            f"diffusion_model.{Q}{down}": f"diffusion_model.{Q}.lora_down.weight",
            f"diffusion_model.{Q}{up}": f"diffusion_model.{Q}.lora_up.weight",
        },
        [],
        [],
        [Q],
    )


APPLIED: dict[str, dict[str, Shape]] = {
    "lora with alpha": low_rank(Q),
    "feed forward": low_rank("blocks.1.ffn.0", FFN, DIM),
    "convolution": {
        "patch_embedding.lora_down.weight": (2, 36, 1, 2, 2),
        "patch_embedding.lora_up.weight": (8, 2, 1, 1, 1),
    },
    "dora": {**low_rank(Q), f"{Q}.dora_scale": (DIM, 1)},
    "difference": {f"{Q}.diff": (DIM, DIM), f"{Q}.diff_b": (DIM,)},
    "replacement": {f"{Q}.set_weight": (DIM, DIM)},
    "norm": {"blocks.0.norm3.w_norm": (DIM,), "blocks.0.norm3.b_norm": (DIM,)},
    "modulation": {"blocks.0.modulation.diff": (1, 6, DIM)},
    "lokr": {f"{Q}.lokr_w1": (2, 2), f"{Q}.lokr_w2": (4, 4), f"{Q}.alpha": ()},
    "lokr in factors": {f"{Q}.lokr_w1": (2, 2), f"{Q}.lokr_w2_a": (4, 1), f"{Q}.lokr_w2_b": (1, 4)},
    "loha": {f"{Q}.hada_w{n}_{side}": (DIM, 2) if side == "a" else (2, DIM) for n in "12" for side in "ab"},
    "enlarged": {**low_rank(Q, 10), f"{Q}.reshape_weight": (2,)},
}  # fmt: skip


@pytest.mark.parametrize("case", APPLIED)
def test_parts_that_apply(case: str) -> None:
    lora = APPLIED[case]
    layer = next(iter(lora)).removesuffix(".diff").removesuffix(".w_norm").removesuffix(".set_weight")
    layer = layer.split(".lo")[0].split(".hada")[0]
    assert plan(lora) == LoraPlan({key: f"diffusion_model.{key}" for key in lora}, [], [], [layer])


UNMATCHED: dict[str, dict[str, Shape]] = {
    "one factor only": {f"{Q}.lora_up.weight": (DIM, 2), f"{Q}.alpha": ()},
    "wider model": low_rank(Q, 16, 16),
    "ranks differ": {f"{Q}.lora_down.weight": (2, DIM), f"{Q}.lora_up.weight": (DIM, 3)},
    "in and out swapped": low_rank("blocks.0.ffn.0", DIM, FFN),
    "t2v patch embedding": {"patch_embedding.diff": (DIM, 16, 1, 2, 2)},
    "bias of another width": {f"{Q}.diff_b": (DIM + 1,)},
    "alpha alone": {f"{Q}.alpha": ()},
    "bias without the norm": {"blocks.0.norm3.b_norm": (DIM,)},
    "lokr of another width": {f"{Q}.lokr_w1": (2, 2), f"{Q}.lokr_w2": (8, 8)},
    "loha of another width": {
        f"{Q}.hada_w{n}_{side}": (16, 2) if side == "a" else (2, 16) for n in "12" for side in "ab"
    },
    "block that is not there": low_rank("blocks.2.self_attn.q"),
    "another network": low_rank("single_blocks.0.linear1"),
    "unknown part": {f"{Q}.magnitude": (DIM,)},
    "text encoder": {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (8, 2)},
    "fused qkv": low_rank("blocks.0.attn1.to_qkv", 3 * DIM),
}


@pytest.mark.parametrize("case", UNMATCHED)
def test_parts_that_match_nothing(case: str) -> None:
    lora = {**low_rank("blocks.1.self_attn.q"), **UNMATCHED[case]}
    good = low_rank("blocks.1.self_attn.q")
    found = plan(lora)
    assert (found.applied, found.harmless) == ({key: f"diffusion_model.{key}" for key in good}, [])
    assert sorted(found.unmatched) == sorted(UNMATCHED[case])


def test_leftovers_of_wan_2_1_and_modulation_differences_are_harmless() -> None:
    leftovers: dict[str, Shape] = {
        **low_rank("diffusion_model.img_emb.proj.1", 1280, 1280),
        **low_rank("diffusion_model.blocks.0.cross_attn.k_img"),
        **low_rank("transformer.blocks.1.attn2.add_v_proj"),
        "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": (DIM,),
        "diffusion_model.blocks.0.diff_m": (1, 6, DIM),
        "diffusion_model.head.diff_m": (1, 2, DIM),
        "lora_unet_blocks_0_cross_attn_v_img.alpha": (),
    }
    found = plan({**leftovers, **low_rank(f"diffusion_model.{Q}")})
    assert sorted(found.harmless) == sorted(leftovers)
    assert (len(found.applied), found.unmatched) == (3, [])


def test_one_file_with_both_experts_serves_each_slot_its_own() -> None:
    lora = {**low_rank("transformer.blocks.0.attn1.to_q"), **low_rank("transformer_2.blocks.0.attn1.to_k")}
    high, low = plan(lora, "high_noise"), plan(lora, "low_noise")
    assert {name.split(".")[4] for name in high.applied.values()} == {"q"}
    assert {name.split(".")[4] for name in low.applied.values()} == {"k"}
    assert sorted(high.harmless) == sorted(low.applied)
    assert sorted(low.harmless) == sorted(high.applied)


def test_two_keys_for_one_weight_are_not_both_applied() -> None:
    first, second = low_rank(f"diffusion_model.{Q}"), low_rank("lora_unet_blocks_0_self_attn_q")
    found = plan({**first, **second})
    assert (sorted(found.applied), sorted(found.unmatched)) == (sorted(first), sorted(second))


def lora_file(path: Path, shapes: dict[str, Shape], title: str | None = None) -> Path:
    listing: Listing = {name: ("F16", shape) for name, shape in shapes.items()}
    return write_model(path, listing, {"modelspec.title": title} if title else None)


def test_the_report_of_a_lora_pair(tmp_path: Path) -> None:
    high = lora_file(tmp_path / "style_high.safetensors", {**low_rank(Q), "blocks.0.diff_m": (1, 6, DIM), "odd": (1,)})
    expert = write_model(tmp_path / "wan_high.safetensors", expert_listing(prefix="model."))
    assert check_lora_pair(high, None, expert) == {
        "high_noise": {
            "file": "style_high.safetensors",
            "applied": 3,
            "harmless": 1,
            "unmatched": 1,
            "layers": 1,
            "examples": ["odd"],
            "trigger_words": [],
        },
        "low_noise": None,
        "warnings": [
            "high_noise_lora: 1 of the 5 keys of style_high.safetensors match nothing in the expert and are not "
            "applied (e.g. odd)."
        ],
    }


def test_names_are_checked_without_the_experts(tmp_path: Path) -> None:
    deep = lora_file(tmp_path / "deep.safetensors", low_rank("diffusion_model.blocks.39.self_attn.q", 5120, 5120, 64))
    assert check_lora_pair(None, deep)["low_noise"]["applied"] == 3
    flux = lora_file(tmp_path / "flux.safetensors", low_rank("single_blocks.0.linear1"))
    with pytest.raises(
        FileRefused,
        match=re.escape("low_noise_lora: expected a LoRA for this Wan expert, but none of the 3 keys of flux"),
    ):
        check_lora_pair(None, flux)
    (tmp_path / "cut.safetensors").write_bytes(deep.read_bytes()[:-10])
    with pytest.raises(FileRefused, match=r"^high_noise_lora: cut\.safetensors is cut short"):
        check_lora_pair(tmp_path / "cut.safetensors", deep)


def test_a_lora_of_another_width_is_refused_when_the_expert_is_known(tmp_path: Path) -> None:
    wide = lora_file(tmp_path / "wide.safetensors", low_rank(Q, 3072, 3072))
    expert = write_model(tmp_path / "wan.safetensors", expert_listing())
    assert check_lora_pair(wide, None)["high_noise"]["applied"] == 3
    with pytest.raises(FileRefused) as refusal:
        check_lora_pair(wide, None, expert)
    assert str(refusal.value) == (
        "high_noise_lora: expected a LoRA made for this model, but the widths differ: blocks.0.self_attn.q is "
        "3072x3072 in wide.safetensors and 8x8 in wan.safetensors."
    )


MISFITS: dict[str, tuple[dict[str, Shape], Misfit]] = {
    "lora": (low_rank("blocks.0.ffn.0", 14336, 3072, 64), Misfit("blocks.0.ffn.0", (14336, 3072), (FFN, DIM))),
    "input channels": (
        {"patch_embedding.lora_A.weight": (2, 16, 1, 2, 2), "patch_embedding.lora_B.weight": (DIM, 2, 1, 1, 1)},
        Misfit("patch_embedding", (DIM, 64), (DIM, 144)),
    ),
    "difference": ({f"{Q}.diff": (16, 16)}, Misfit(Q, (16, 16), (DIM, DIM))),
    "bias": ({f"{Q}.diff_b": (16,)}, Misfit(f"{Q}.bias", (16,), (DIM,))),
    "modulation": ({"head.modulation.diff": (1, 2, 16)}, Misfit("head.modulation", (1, 2, 16), (1, 2, DIM))),
    "lokr": ({f"{Q}.lokr_w1": (2, 2), f"{Q}.lokr_w2": (8, 8)}, Misfit(Q, (16, 16), (DIM, DIM))),
    "loha": (
        {f"{Q}.hada_w{n}_{side}": (16, 2) if side == "a" else (2, 16) for n in "12" for side in "ab"},
        Misfit(Q, (16, 16), (DIM, DIM)),
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_the_first_layer_of_another_shape_is_told(case: str) -> None:
    lora, misfit = MISFITS[case]
    found = plan({**low_rank("blocks.1.self_attn.q"), **lora, **low_rank("blocks.1.ffn.2", 99, 99)})
    assert (found.misfit, found.layers) == (misfit, ["blocks.1.self_attn.q"])


def test_a_lora_that_fits_in_part_warns_with_the_shapes(tmp_path: Path) -> None:
    part = lora_file(tmp_path / "t2v.safetensors", {**low_rank(Q), "patch_embedding.diff": (DIM, 16, 1, 2, 2)})
    expert = write_model(tmp_path / "wan.safetensors", expert_listing())
    assert check_lora_pair(None, part, None, expert)["warnings"] == [
        "low_noise_lora: 1 of the 4 keys of t2v.safetensors match nothing in the expert and are not applied "
        "(e.g. patch_embedding is 8x16x1x2x2 in t2v.safetensors and 8x36x1x2x2 in wan.safetensors)."
    ]


def test_swapped_names_and_a_second_distillation_warn(tmp_path: Path) -> None:
    lora = lora_file(tmp_path / "lightx2v_4steps_low_noise.safetensors", low_rank(Q))
    titled = lora_file(tmp_path / "b.safetensors", low_rank(Q), "Wan2.2 Lightning")
    merged = write_model(tmp_path / "DasiwaWAN22_tastysinHighV81.safetensors", expert_listing())
    plain = write_model(tmp_path / "wan_low.safetensors", expert_listing())
    assert check_lora_pair(lora, titled, merged, plain)["warnings"] == [
        "high_noise_lora: the name lightx2v_4steps_low_noise.safetensors speaks of the low-noise expert.",
        "high_noise_lora: lightx2v_4steps_low_noise.safetensors and DasiwaWAN22_tastysinHighV81.safetensors are both "
        "made for a few steps, and the effect must not be applied twice; set high_noise_lora to none.",
    ]
    assert "b.safetensors and DasiwaWAN22" in check_lora_pair(titled, None, merged)["warnings"][0]


def test_the_folder_of_a_plain_name_tells_a_second_distillation(tmp_path: Path) -> None:
    lora = lora_file(tmp_path / "Wan2.2-Lightning" / "high_noise_model.safetensors", low_rank(Q))
    merged = write_model(tmp_path / "4steps" / "high.safetensors", expert_listing())
    assert check_lora_pair(lora, None, merged)["warnings"] == [
        "high_noise_lora: high_noise_model.safetensors and high.safetensors are both made for a few steps, and the "
        "effect must not be applied twice; set high_noise_lora to none."
    ]
