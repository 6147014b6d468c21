"""The toy files: real layouts, loaded by ComfyUI's own loaders, written whole and once."""

import os
import subprocess
import sys
from pathlib import Path

import comfy.ldm.wan.model
import comfy.ldm.wan.vae
import comfy.ops
import comfy.sd
import comfy.taesd.taehv
import comfy.utils
import pytest
import torch
from safetensors import safe_open
from wan_relay.toy import layout, sizes
from wan_relay.toy.family import EXPERTS as EXPERTS_OF_THE_PAIR
from wan_relay.toy.family import WEIGHTS, base_expert, ensure_family, family_files, lora, text_encoder_config
from wan_relay.toy.text_encoder import text_encoder_weights
from wan_relay.toy.tokenizer import TOKENIZER_FILE, train_tokenizer

pytestmark = pytest.mark.comfy
EXPERTS = {"i2v": (sizes.I2V, 36, 16), "t2v": (sizes.T2V, 16, 16), "ti2v_5b": (sizes.TI2V_5B, 48, 48)}


def shapes_of(module: torch.nn.Module) -> layout.Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("kind", EXPERTS)
def test_expert_layout_is_comfyuis(kind):
    size = EXPERTS[kind][0]
    names = ("in_dim", "out_dim", "dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "freq_dim")
    options = {name: getattr(size, name) for name in names}
    model = comfy.ldm.wan.model.WanModel(operations=comfy.ops.disable_weight_init, dtype=torch.float16, **options)
    assert layout.expert(size) == shapes_of(model)


def test_vae_layouts_are_comfyuis():
    size = sizes.VAE_2_1
    real = comfy.ldm.wan.vae.WanVAE(dim=size.dim, z_dim=16, temperal_downsample=list(size.temporal_downsample))
    assert layout.vae(size) == shapes_of(real)
    assert layout.tiny_vae() == shapes_of(comfy.taesd.taehv.TAEHV(48))


@pytest.mark.parametrize(
    ("name", "kind", "model_class"),
    [
        ("i2v_high_noise", "i2v", "WAN21"),
        ("i2v_low_noise_4step", "i2v", "WAN21"),
        ("t2v_high_noise_4step", "t2v", "WAN21"),
        ("ti2v_5b", "ti2v_5b", "WAN22"),
    ],
)
def test_experts_load_as_what_they_are(toy_models, name, kind, model_class):
    model = comfy.sd.load_diffusion_model(str(toy_models / f"diffusion_models/toy_wan2.2_{name}.safetensors"))
    network = model.model.diffusion_model
    size, in_dim, out_dim = EXPERTS[kind]
    assert type(model.model).__name__ == model_class
    assert (network.in_dim, network.out_dim, network.text_dim) == (in_dim, out_dim, sizes.TEXT.d_model)
    assert (network.num_heads, network.num_layers) == (size.num_heads, size.num_layers)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_text_encoder_loads_whole_and_tells_words_apart(toy_models, caplog):
    path = toy_models / "text_encoders/toy_umt5.safetensors"
    options = {"umt5xxl_model_config": text_encoder_config(path)}
    clip = comfy.sd.load_clip([str(path)], clip_type=comfy.sd.CLIPType.WAN, model_options=options)
    assert "clip missing" not in caplog.text
    left, right, empty = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0] for text in ("pan left", "pan right", "")
    )
    assert left.shape == (1, 512, sizes.TEXT.d_model)
    assert (left - right).abs().mean() > 0.001
    assert not left[:, 3:].any(), "padding is zero"
    assert empty.abs().sum(dim=2).count_nonzero() == 1, "an empty prompt is its end token alone"


def test_text_encoder_file_runs_the_layers_it_names():
    weights = text_encoder_weights()
    blocks = {name.split(".")[2] for name in weights if name.startswith("encoder.block.")}
    assert blocks == {*map(str, range(sizes.TEXT.num_layers)), "23"}, "block 23 is for recognition only"


def test_vaes_carry_their_own_latents(toy_models):
    frames = torch.rand(5, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    for name, channels, stride in (("toy_wan_2.1_vae", 16, 8), ("toy_wan2.2_vae", 48, 16)):
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(toy_models / f"vae/{name}.safetensors")))
        with torch.inference_mode():
            latents = vae.encode(frames)
            decoded = vae.decode(latents)
        assert latents.shape == (1, channels, 2, 64 // stride, 96 // stride)
        assert decoded.shape == (1, 5, 64, 96, 3)
        assert torch.isfinite(decoded).all()


def test_lora_pair_touches_every_block_layer(toy_models):
    for expert in ("high", "low"):
        model = comfy.sd.load_diffusion_model(
            str(toy_models / f"diffusion_models/toy_wan2.2_i2v_{expert}_noise.safetensors")
        )
        path = toy_models / f"loras/toy_wan2.2_i2v_{expert}_noise_4step_lora.safetensors"
        lora = comfy.utils.load_torch_file(str(path))
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
        assert len(patched.patches) == sizes.I2V.num_layers * len(layout.LORA_TARGETS) == len(lora) // 3


def test_merged_checkpoint_is_base_plus_lora(toy_models):
    folder = toy_models / "diffusion_models"
    base = comfy.sd.load_diffusion_model(str(folder / "toy_wan2.2_i2v_low_noise.safetensors"))
    lora = comfy.utils.load_torch_file(str(toy_models / "loras/toy_wan2.2_i2v_low_noise_4step_lora.safetensors"))
    patched, _ = comfy.sd.load_lora_for_models(base, None, lora, 1.0, 0.0)
    merged = comfy.utils.load_torch_file(str(folder / "toy_wan2.2_i2v_low_noise_4step.safetensors"))
    plain = base.model.diffusion_model.state_dict()
    changed = 0
    for key in patched.patches:
        name = key.removeprefix("diffusion_model.")
        expected = patched.patch_weight_to_device(key, return_weight=True).float()
        torch.testing.assert_close(merged[name].float(), expected, atol=2e-2, rtol=2e-3)
        changed += not torch.equal(merged[name].float(), plain[name].float())
    assert changed >= 1


def test_t2v_is_the_merged_pair_without_an_image(toy_models):
    folder = toy_models / "diffusion_models"
    t2v = comfy.utils.load_torch_file(str(folder / "toy_wan2.2_t2v_high_noise_4step.safetensors"))
    i2v = comfy.utils.load_torch_file(str(folder / "toy_wan2.2_i2v_high_noise_4step.safetensors"))
    assert torch.equal(t2v.pop("patch_embedding.weight"), i2v.pop("patch_embedding.weight")[:, :16])
    assert all(torch.equal(tensor, i2v[name]) for name, tensor in t2v.items())
    assert t2v.keys() == i2v.keys()


def test_everything_is_written_once_and_again_when_it_is_of_another_edition(tmp_path):
    ensure_family(tmp_path)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert {str(path.relative_to(tmp_path)) for path in paths} == set(family_files())
    times = [path.stat().st_mtime_ns for path in paths]
    old = tmp_path / "vae/toy_wan_2.1_vae.safetensors"
    other = tmp_path / "loras/toy_wan2.2_i2v_low_noise_4step_lora.safetensors"
    os.replace(other, old)
    with safe_open(str(old), framework="pt") as file:
        assert "conv1.weight" not in file.keys()  # noqa: SIM118 - not a dict
    with old.open("r+b") as file:
        content = file.read().replace(b"wan_relay_toy", b"wan_relay_old", 1)
        file.seek(0)
        file.write(content)
    ensure_family(tmp_path)
    with safe_open(str(old), framework="pt") as file:
        assert "conv1.weight" in file.keys()  # noqa: SIM118 - not a dict
    again = [path.stat().st_mtime_ns for path in paths]
    assert sum(a != b for a, b in zip(times, again, strict=True)) == 2, "the rest stays as it is"


def test_two_processes_may_write_at_once(tmp_path):
    code = (
        "import sys, types; p = types.ModuleType('wan_relay'); p.__path__ = [sys.argv[1]];"
        "sys.modules['wan_relay'] = p;"
        "from wan_relay.toy.family import ensure_family; ensure_family(__import__('pathlib').Path(sys.argv[2]))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-P", "-c", code, str(root), str(tmp_path / "models")]
    writers = []
    try:
        for number in range(2):
            with (tmp_path / f"log{number}").open("wb") as log:
                writers.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
                    )
                )
        assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            if writer.poll() is None:
                writer.kill()
                writer.wait(timeout=10)
    written = {str(path.relative_to(tmp_path / "models")) for path in (tmp_path / "models").rglob("*.*")}
    assert written == set(family_files()), "no temporary file is left"


@pytest.mark.parametrize("expert", EXPERTS_OF_THE_PAIR)
def test_what_is_committed_in_parts_is_whole_again(expert):
    expected = layout.expert(sizes.I2V)
    assert {name: tuple(tensor.shape) for name, tensor in base_expert(expert).items()} == expected
    low_rank = {name: tuple(tensor.shape) for name, tensor in lora(expert).items()}
    assert low_rank == layout.lora(sizes.I2V, sizes.LORA_RANK)


def test_committed_weights_fit_the_budget():
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 24_000_000


def test_tokenizer_comes_out_the_same_again():
    assert train_tokenizer() == TOKENIZER_FILE.read_bytes()
