"""Every key style gives the same weights; counts are what ComfyUI itself leaves out; inputs stay as they were."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.sd
import pytest
import torch
from safetensors.torch import save_file
from wan_relay.nodes.engine.files.expert_origin import ExpertOrigin, origin_of, set_origin
from wan_relay.nodes.engine.files.lora_patches import apply_lora, read_lora
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.tests.engine.files.expert_variants import (
    WEIGHTS,
    Tensors,
    fp16,
    predict,
    quantised,
    relative_error,
    write_expert,
)

pytestmark = pytest.mark.comfy
RANK, ALPHA, STRENGTH = 4, 2.0, 0.75
DIFFUSERS = {
    **{f"self_attn.{part}": f"attn1.to_{part}" for part in "qkv"},
    "self_attn.o": "attn1.to_out.0",
    **{f"cross_attn.{part}": f"attn2.to_{part}" for part in "qkv"},
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
LAYERS = [f"blocks.{index}.{name}" for index in (0, 1) for name in DIFFUSERS]


def factors() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return {
        layer: (
            torch.randn(RANK, WEIGHTS[f"{layer}.weight"].shape[1], generator=generator) * 0.1,
            torch.randn(WEIGHTS[f"{layer}.weight"].shape[0], RANK, generator=generator) * 0.1,
        )
        for layer in LAYERS
    }


FACTORS = factors()


def native(layer: str) -> str:
    return f"diffusion_model.{layer}"


DOWN_UP = (".lora_down.weight", ".lora_up.weight")
A_B = (".lora_A.weight", ".lora_B.weight")


def lora(rename: Callable[[str], str] = native, ends: tuple[str, str] = DOWN_UP, alpha: bool = True) -> Tensors:
    tensors = {}
    for layer, (down, up) in FACTORS.items():
        tensors[rename(layer) + ends[0]], tensors[rename(layer) + ends[1]] = down, up
        if alpha:
            tensors[f"{rename(layer)}.alpha"] = torch.tensor(ALPHA)
    return tensors


def expected_weights(scale: float) -> Tensors:
    changed = {f"{layer}.weight": scale * (up @ down) for layer, (down, up) in FACTORS.items()}
    return {name: weight.half().float() + changed.get(name, 0) for name, weight in WEIGHTS.items()}


def effective_weights(model: Any) -> Tensors:
    """The weights with which ComfyUI runs the model: its own arithmetic over the patches."""
    weights = {}
    for name, weight in model.model.diffusion_model.state_dict(prefix="diffusion_model.").items():
        patches = model.patches.get(name, [])
        weights[name.removeprefix("diffusion_model.")] = comfy.lora.calculate_weight(
            patches, weight.float().clone(), name
        )
    return weights


def assert_equal_weights(model: Any, expected: Tensors) -> None:
    torch.testing.assert_close(effective_weights(model), expected, rtol=1e-5, atol=1e-6)


def diffusers_name(layer: str) -> str:
    _, index, name = layer.split(".", 2)
    return f"blocks.{index}.{DIFFUSERS[name]}"


def glued(prefix: str, name: Callable[[str], str] = str) -> Callable[[str], str]:
    return lambda layer: prefix + name(layer).replace(".", "_")


def dotted(prefix: str, name: Callable[[str], str] = str) -> Callable[[str], str]:
    return lambda layer: prefix + name(layer)


# style -> (LoRA file, whether ComfyUI applies it without help)
STYLES: dict[str, tuple[Tensors, bool]] = {
    "diffusion_model, up and down": (lora(), True),
    "diffusion_model, A and B": (lora(native, A_B), True),
    "diffusion_model, default adapter": (lora(native, (".lora_A.default.weight", ".lora_B.default.weight")), True),
    "kohya": (lora(glued("lora_unet_")), True),
    "wan fun": (lora(glued("lora_unet__")), True),
    "named adapter": (lora(native, (".lora_A.style.weight", ".lora_B.style.weight")), False),
    "bare": (lora(dotted("")), False),
    "model.diffusion_model": (lora(dotted("model.diffusion_model.")), False),
    "transformer": (lora(dotted("transformer."), A_B), False),
    "transformer_2": (lora(dotted("transformer_2."), A_B), False),
    "base_model.model": (lora(dotted("base_model.model."), A_B), False),
    "diffusers": (lora(dotted("transformer.", diffusers_name), A_B), False),
    "diffusers, bare": (lora(dotted("", diffusers_name), A_B), False),
    "diffusers, PEFT": (lora(dotted("base_model.model.", diffusers_name), A_B), False),
    "lora_transformer": (lora(glued("lora_transformer_")), False),
    "lora_transformer, diffusers": (lora(glued("lora_transformer_", diffusers_name)), False),
    "lycoris": (lora(glued("lycoris_")), False),
    "lycoris, diffusers": (lora(glued("lycoris_", diffusers_name)), False),
}


def patch(model: Any, path: Path, strength: float, slot: str) -> tuple[Any, dict[str, Any], list[str]]:
    return apply_lora(model, read_lora(path), strength, slot)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return comfy.sd.load_diffusion_model(str(write_expert(tmp_path_factory.mktemp("model") / "wan_high.safetensors")))


def write_lora(path: Path, tensors: Tensors, **metadata: str) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata=metadata or None)
    return path


@pytest.mark.parametrize("style", STYLES)
def test_every_key_style_gives_the_same_weights(style: str, model: Any, tmp_path: Path) -> None:
    tensors, read_by_core = STYLES[style]
    patched, report, warnings = patch(model, write_lora(tmp_path / "a.safetensors", tensors), STRENGTH, "high_noise")
    assert_equal_weights(patched, expected_weights(STRENGTH * ALPHA / RANK))
    assert report == {
        "file": "a.safetensors",
        "strength": STRENGTH,
        "applied": len(tensors),
        "harmless": 0,
        "unmatched": 0,
        "layers": len(LAYERS),
        "examples": [],
        "trigger_words": [],
    }
    assert warnings == []
    by_core, _ = comfy.sd.load_lora_for_models(model, None, dict(tensors), STRENGTH, 0)
    assert len(by_core.patches) == (len(LAYERS) if read_by_core else 0)


def test_without_alpha_the_scale_is_one(model: Any, tmp_path: Path) -> None:
    patched, _, _ = patch(model, write_lora(tmp_path / "a.safetensors", lora(alpha=False)), STRENGTH, "high_noise")
    assert_equal_weights(patched, expected_weights(STRENGTH))


def test_the_network_runs_like_one_with_the_lora_merged(model: Any, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "a.safetensors", STYLES["diffusers"][0])
    merged = write_expert(tmp_path / "merged.safetensors", expected_weights(ALPHA / RANK))
    patched, _, _ = patch(model, path, 1.0, "high_noise")
    plain, expected = predict(model), predict(comfy.sd.load_diffusion_model(str(merged)))
    assert relative_error(predict(patched), expected) < 2e-3
    assert relative_error(plain, expected) > 0.05


def test_the_input_model_is_not_changed_and_chains_add_up(model: Any, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "a.safetensors", lora())
    before = (dict(model.patches), model.patches_uuid, dict(model.attachments))
    once, _, _ = patch(model, path, 0.5, "high_noise")
    patches_of_once = {name: list(patches) for name, patches in once.patches.items()}
    twice, _, _ = patch(once, path, -1.5, "high_noise")
    assert (dict(model.patches), model.patches_uuid, dict(model.attachments)) == before
    assert {name: list(patches) for name, patches in once.patches.items()} == patches_of_once
    assert_equal_weights(twice, expected_weights(-1.0 * ALPHA / RANK))
    assert once.model is model.model


def test_differences_norms_biases_and_modulations_add_to_the_lora_of_the_same_layer(model: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(7)
    changed = [
        "blocks.0.ffn.0.weight",
        "blocks.0.ffn.0.bias",
        "blocks.1.norm3.weight",
        "blocks.1.modulation",
        "head.modulation",
    ]
    change = {name: torch.randn(WEIGHTS[name].shape, generator=generator) for name in changed}
    tensors = {
        **lora(),
        "diffusion_model.blocks.0.ffn.0.diff": change["blocks.0.ffn.0.weight"],
        "diffusion_model.blocks.0.ffn.0.diff_b": change["blocks.0.ffn.0.bias"],
        "diffusion_model.blocks.1.norm3.w_norm": change["blocks.1.norm3.weight"],
        "transformer.blocks.1.scale_shift_table.diff": change["blocks.1.modulation"],
        "diffusion_model.head.modulation.diff": change["head.modulation"],
    }
    patched, report, _ = patch(model, write_lora(tmp_path / "a.safetensors", tensors), STRENGTH, "high_noise")
    expected = expected_weights(STRENGTH * ALPHA / RANK)
    assert_equal_weights(patched, {n: w + STRENGTH * change[n] if n in change else w for n, w in expected.items()})
    assert report["applied"] == len(tensors)


def test_the_counts_are_what_comfyui_leaves_out(model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_out = {
        "diffusion_model.img_emb.proj.1.lora_down.weight": torch.zeros(RANK, 1280),
        "diffusion_model.img_emb.proj.1.lora_up.weight": torch.zeros(1280, RANK),
        "diffusion_model.blocks.0.cross_attn.k_img.diff": torch.zeros(64, 64),
        "diffusion_model.blocks.0.diff_m": torch.zeros(1, 6, 64),
        "diffusion_model.blocks.7.ffn.0.lora_down.weight": torch.zeros(RANK, 64),
        "diffusion_model.blocks.7.ffn.0.lora_up.weight": torch.zeros(128, RANK),
    }
    tensors = {**lora(), **left_out}
    path = write_lora(tmp_path / "a.safetensors", tensors)
    with caplog.at_level(logging.WARNING):
        comfy.sd.load_lora_for_models(model, None, dict(tensors), 1.0, 0)
    logged = {message.removeprefix("lora key not loaded: ") for message in caplog.messages if "lora key" in message}
    assert logged == left_out.keys()
    _, report, warnings = patch(model, path, 1.0, "low_noise")
    assert (report["applied"], report["harmless"], report["unmatched"]) == (60, 4, 2)
    assert sorted(report["examples"]) == sorted(name for name in left_out if "blocks.7" in name)
    assert len(warnings) == 1
    assert warnings[0].startswith("low_noise_lora: 2 of the 66 keys of a.safetensors match nothing in the expert")


def test_shapes_that_do_not_fit_are_not_applied(model: Any, tmp_path: Path) -> None:
    tensors = {**lora(), "diffusion_model.patch_embedding.diff": torch.ones(64, 16, 1, 2, 2)}
    patched, report, _ = patch(model, write_lora(tmp_path / "a.safetensors", tensors), STRENGTH, "high_noise")
    assert (report["applied"], report["examples"]) == (60, ["diffusion_model.patch_embedding.diff"])
    assert_equal_weights(patched, expected_weights(STRENGTH * ALPHA / RANK))


def test_a_lora_that_fits_nothing_is_refused(model: Any, tmp_path: Path) -> None:
    wide = {name: tensor.repeat(1, 2) if "down" in name else tensor for name, tensor in lora().items()}
    with pytest.raises(FileRefused) as refusal:
        patch(model, write_lora(tmp_path / "wide.safetensors", wide), 1.0, "low_noise")
    assert str(refusal.value) == (
        "low_noise_lora: expected a LoRA made for this model, but the widths differ: blocks.0.cross_attn.k is "
        "64x128 in wide.safetensors and 64x64 in wan_high.safetensors."
    )
    other = {name.replace("blocks", "single_blocks"): tensor for name, tensor in lora().items()}
    with pytest.raises(FileRefused, match=r"none of the 60 keys of flux\.safetensors fits it"):
        patch(model, write_lora(tmp_path / "flux.safetensors", other), 1.0, "low_noise")


@pytest.mark.parametrize(
    ("dtype", "algorithm"), [(torch.float8_e4m3fn, "float8_e4m3fn"), (torch.int8, "int8_tensorwise")]
)
def test_quantised_experts_take_loras(dtype: torch.dtype, algorithm: str, tmp_path: Path) -> None:
    path = write_expert(tmp_path / "q.safetensors", quantised(dtype, algorithm=algorithm))
    merged = write_expert(tmp_path / "merged.safetensors", fp16(expected_weights(ALPHA / RANK)))
    expert = comfy.sd.load_diffusion_model(str(path))
    patched, report, _ = patch(expert, write_lora(tmp_path / "a.safetensors", lora()), 1.0, "high_noise")
    assert (report["applied"], report["unmatched"]) == (60, 0)
    expected = predict(comfy.sd.load_diffusion_model(str(merged)))
    assert relative_error(predict(patched), expected) < 0.06


def test_a_second_distillation_warns_by_checkpoint_and_by_earlier_lora(model: Any, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "lightx2v_4steps_high.safetensors", lora())
    style = write_lora(tmp_path / "style.safetensors", lora())
    plain = model.clone()
    set_origin(plain, ExpertOrigin("wan2.2_high.safetensors", False))
    once, _, first = patch(plain, path, 1.0, "high_noise")
    styled, _, second = patch(once, style, 1.0, "high_noise")
    _, _, third = patch(styled, path, 1.0, "high_noise")
    assert (first, second) == ([], [])
    assert third == [
        "high_noise_lora: lightx2v_4steps_high.safetensors and wan2.2_high.safetensors are both made for a few steps, "
        "and the effect must not be applied twice; set high_noise_lora to none."
    ]
    names = ("lightx2v_4steps_high.safetensors", "style.safetensors")
    assert origin_of(styled.clone()) == ExpertOrigin("wan2.2_high.safetensors", True, names)
    assert origin_of(plain) == ExpertOrigin("wan2.2_high.safetensors", False)
    titled = write_lora(tmp_path / "b.safetensors", lora(), **{"modelspec.title": "Wan2.2 Lightning"})
    set_origin(plain, ExpertOrigin("DasiwaWAN22_tastysinHighV81.safetensors", True))
    _, _, warnings = patch(plain, titled, 1.0, "high_noise")
    assert warnings[0].startswith("high_noise_lora: b.safetensors and DasiwaWAN22_tastysinHighV81.safetensors are both")
    (tmp_path / "Lightning").mkdir()
    in_folder = write_lora(tmp_path / "Lightning" / "high_noise_model.safetensors", lora())
    assert len(patch(plain, in_folder, 1.0, "high_noise")[2]) == 1


def test_a_lora_of_the_other_expert_warns_by_name(model: Any, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "style_high_noise.safetensors", lora())
    assert patch(model, path, 1.0, "high_noise")[2] == []
    assert patch(model, path, 1.0, "low_noise")[2] == [
        "low_noise_lora: the name style_high_noise.safetensors speaks of the high-noise expert."
    ]
