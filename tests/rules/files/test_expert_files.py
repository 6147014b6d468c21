"""Which model files are taken as experts, and which are refused with which sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.expert_files import check_expert, check_pair
from wan_relay.nodes.rules.files.expert_kind import wan_tensors
from wan_relay.nodes.rules.files.safetensors_header import read_header
from wan_relay.tests.tiny_models import (
    Listing,
    expert_listing,
    is_block_weight,
    write_gguf,
    write_model,
    write_sparse_model,
)

A14B = {"dim": 5120, "ffn_dim": 13824, "num_layers": 40, "text_dim": 4096, "freq_dim": 256}


def with_tensor(name: str, kind: str = "i2v") -> Listing:
    return {**expert_listing(kind), name: ("F16", (2, 2))}


def with_channels(in_dim: int, out_dim: int) -> Listing:
    listing = expert_listing()
    listing["patch_embedding.weight"] = ("F16", (8, in_dim, 1, 2, 2))
    listing["head.head.weight"] = ("F16", (4 * out_dim, 8))
    return listing


def without(*names: str) -> Listing:
    return {name: entry for name, entry in expert_listing().items() if name not in names}


def diffusers_listing() -> Listing:
    layers = ["condition_embedder.text_embedder.linear_1", "blocks.0.attn1.to_q", "blocks.0.attn2.to_q", "proj_out"]
    return {f"{layer}.{part}": ("F16", (2, 2)) for layer in layers for part in ("weight", "bias")}


def test_the_facts_of_a_real_size_file_come_from_its_header_alone(tmp_path: Path) -> None:
    listing = {
        name: ("F8_E4M3" if is_block_weight(name, shape) else "F16", shape)
        for name, (_, shape) in expert_listing(**A14B).items()
    }
    path = write_sparse_model(tmp_path / "wan2.2_i2v_high_noise_14B_fp8.safetensors", listing)
    assert vars_of(check_expert(path)) == {
        "file": "wan2.2_i2v_high_noise_14B_fp8.safetensors",
        "kind": "i2v",
        "precision": "fp8_e4m3fn",
        "bytes": path.stat().st_size,
        "num_tensors": 1095,
        "prefix": "",
        "dim": 5120,
        "num_layers": 40,
        "named": "high_noise",
        "distilled": False,
    }
    assert path.stat().st_size > 14_000_000_000


def vars_of(facts: Any) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__dataclass_fields__}


def test_the_released_experts_have_1095_tensors() -> None:
    assert len(wan_tensors(40)) == 1095
    assert set(wan_tensors(40)) == expert_listing(**A14B).keys()


@pytest.mark.parametrize(
    ("listing", "kind"),
    [
        (expert_listing("i2v"), "i2v"),
        (expert_listing("t2v"), "t2v"),
        (expert_listing("ti2v_5b"), "ti2v_5b"),
        (with_tensor("img_emb.proj.0.bias"), "wan2.1_i2v"),
        (with_tensor("vace_patch_embedding.weight", "t2v"), "vace"),
        (with_tensor("control_adapter.conv.weight"), "fun_camera"),
        (with_tensor("ref_conv.weight"), "fun_control"),
        (with_tensor("face_adapter.fuser_blocks.0.k_norm.weight"), "animate"),
        (with_tensor("casual_audio_encoder.encoder.final_linear.weight", "t2v"), "s2v"),
        (with_tensor("audio_proj.audio_proj_glob_1.layer.bias"), "humo"),
        (with_tensor("patch_embedding_pose.weight"), "scail"),
        (with_tensor("patch_embedding_mask.weight"), "scail"),
        (with_tensor("patch_embedding_global.weight"), "wandancer"),
        (with_channels(48, 16), "fun_control"),
        (with_channels(52, 16), "fun_control"),
        (with_channels(33, 16), "other_wan"),
    ],
)
def test_kind_and_what_the_pair_check_says_to_it(tmp_path: Path, listing: Listing, kind: str) -> None:
    path = write_model(tmp_path / "a.safetensors", listing)
    assert check_expert(path).kind == kind
    low = write_model(tmp_path / "b.safetensors", expert_listing("i2v"), seed=1)
    if kind != "i2v":
        with pytest.raises(FileRefused, match=r"^(high_noise: |low_noise: ).*\.$"):
            check_pair(path, low)


@pytest.mark.parametrize(
    "prefix", ["", "model.", "model.diffusion_model.", "net.", "diffusion_model.", "transformer.", "a.b.c."]
)
def test_every_prefix_is_found_beside_the_other_parts_of_a_checkpoint(tmp_path: Path, prefix: str) -> None:
    listing = expert_listing(prefix=prefix)
    if prefix:
        listing["first_stage_model.decoder.head.2.weight"] = ("F16", (3, 3))
    facts = check_expert(write_model(tmp_path / "a.safetensors", listing))
    assert (facts.prefix, facts.num_tensors) == (prefix, len(expert_listing()))


NOT_EXPERTS: dict[str, tuple[Listing, str]] = {
    "diffusers keys": (diffusers_listing(), "it has the diffusers layout, which ComfyUI cannot load"),
    "lora": ({"diffusion_model.blocks.0.self_attn.q.lora_down.weight": ("F16", (2, 2))}, "it is a LoRA"),
    "vae": ({"decoder.head.0.gamma": ("F16", (2,))}, "it does not hold a Wan network"),
    "shard": (without("head.modulation"), "it holds only a part of a Wan network"),
    "lost tensors": (
        without("blocks.1.ffn.2.weight", "time_embedding.0.bias"),
        "it lacks 2 of the 69 tensors of a Wan network (first time_embedding.0.bias)",
    ),
    "one lost tensor": (
        without("head.head.bias"),
        "it lacks 1 of the 69 tensors of a Wan network (first head.head.bias)",
    ),
    "a lost block": (
        {n: e for n, e in expert_listing(num_layers=3).items() if not n.startswith("blocks.1.")},
        "it lacks 27 of the 96 tensors of a Wan network (first blocks.1.modulation)",
    ),
    "two networks": ({**expert_listing(), **expert_listing(prefix="low.")}, "it holds 2 Wan networks"),
}


@pytest.mark.parametrize("case", NOT_EXPERTS)
def test_files_without_a_whole_expert_are_refused(tmp_path: Path, case: str) -> None:
    listing, reason = NOT_EXPERTS[case]
    with pytest.raises(FileRefused) as refusal:
        check_expert(write_model(tmp_path / "a.safetensors", listing))
    assert str(refusal.value).startswith("a.safetensors cannot be used: " + reason)


def test_one_shard_and_a_diffusers_folder_are_refused(tmp_path: Path) -> None:
    shard = write_model(tmp_path / "diffusion_pytorch_model-00001-of-00006.safetensors", expert_listing())
    with pytest.raises(FileRefused, match="is one shard of a diffusers layout"):
        check_expert(shard)
    with pytest.raises(FileRefused, match="got the folder"):
        check_expert(tmp_path)


def test_the_report_of_a_good_pair(tmp_path: Path) -> None:
    high = write_model(tmp_path / "wan_high_noise.safetensors", expert_listing(), seed=1)
    low = write_model(tmp_path / "wan_low_noise.safetensors", expert_listing(dtype="BF16"), seed=2)
    facts = {"kind": "i2v", "num_tensors": 69, "prefix": "", "dim": 8, "num_layers": 2, "distilled": False}
    assert check_pair(high, low) == {
        "high_noise": {
            **facts,
            "file": "wan_high_noise.safetensors",
            "precision": "fp16",
            "bytes": high.stat().st_size,
            "named": "high_noise",
        },
        "low_noise": {
            **facts,
            "file": "wan_low_noise.safetensors",
            "precision": "bf16",
            "bytes": low.stat().st_size,
            "named": "low_noise",
        },
        "warnings": [],
    }


def test_ti2v_5b_is_one_model(tmp_path: Path) -> None:
    one = write_model(tmp_path / "ti2v.safetensors", expert_listing("ti2v_5b"), seed=1)
    report = check_pair(one, None)
    assert (report["high_noise"]["kind"], report["low_noise"]) == ("ti2v_5b", None)
    other = write_model(tmp_path / "i2v.safetensors", expert_listing(), seed=2)
    with pytest.raises(FileRefused, match=r"^low_noise: expected the low-noise partner of i2v\.safetensors, got none"):
        check_pair(other, None)
    with pytest.raises(FileRefused, match=r"^high_noise: ti2v\.safetensors is the Wan2\.2 TI2V-5B model"):
        check_pair(one, other)
    with pytest.raises(FileRefused, match=r"^low_noise: ti2v\.safetensors is the Wan2\.2 TI2V-5B model"):
        check_pair(other, one)


def test_i2v_beside_t2v_and_other_widths_are_refused(tmp_path: Path) -> None:
    i2v = write_model(tmp_path / "i2v.safetensors", expert_listing(), seed=1)
    t2v = write_model(tmp_path / "t2v.safetensors", expert_listing("t2v"), seed=2)
    with pytest.raises(FileRefused) as refusal:
        check_pair(i2v, t2v)
    assert str(refusal.value) == (
        "low_noise: expected a Wan2.2 I2V expert beside i2v.safetensors in high_noise, but t2v.safetensors is "
        "a Wan T2V expert."
    )
    deep = write_model(tmp_path / "deep.safetensors", expert_listing(num_layers=3), seed=3)
    with pytest.raises(FileRefused, match=r"expected 2 blocks of width 8 .* but deep\.safetensors has 3 of width 8"):
        check_pair(i2v, deep)


def copy_file(source: Path, folder: Path) -> Path:
    (folder / "copy.safetensors").write_bytes(source.read_bytes())
    return folder / "copy.safetensors"


def link_file(source: Path, folder: Path) -> Path:
    (folder / "link.safetensors").symlink_to(source)
    return folder / "link.safetensors"


def same_file(source: Path, folder: Path) -> Path:
    return source


def copy_with_other_metadata(source: Path, folder: Path) -> Path:
    return write_model(folder / "renamed.safetensors", expert_listing(), {"title": "low noise"}, seed=1)


def copy_with_prefix(source: Path, folder: Path) -> Path:
    return write_model(folder / "prefixed.safetensors", expert_listing(prefix="model."), seed=1)


@pytest.mark.parametrize(
    "make",
    [same_file, copy_file, link_file, copy_with_other_metadata, copy_with_prefix],
    ids=lambda make: make.__name__,
)
def test_the_same_weights_in_both_inputs_are_refused(tmp_path: Path, make: Callable[[Path, Path], Path]) -> None:
    high = write_model(tmp_path / "high.safetensors", expert_listing(), seed=1)
    low = make(high, tmp_path)
    with pytest.raises(FileRefused, match=r"holds the same weights as high\.safetensors in high_noise"):
        check_pair(high, low)


@pytest.mark.parametrize("layer", ["blocks.0.cross_attn.q.weight", "time_projection.1.weight"])
def test_one_changed_layer_makes_another_expert(tmp_path: Path, layer: str) -> None:
    listing = expert_listing(dtype="F32")
    high = write_model(tmp_path / "high.safetensors", listing, seed=1)
    content = bytearray(high.read_bytes())
    place = read_header(high).tensors[layer]
    content[place.begin : place.end] = bytes(place.end - place.begin)
    low = tmp_path / "low.safetensors"
    low.write_bytes(content)
    assert check_pair(high, low)["warnings"] == []


@pytest.mark.parametrize(
    ("high", "low", "kind", "warnings"),
    [
        ("wan_high", "wan_low", "i2v", []),
        ("wan_a", "wan_b", "i2v", []),
        (
            "wan_low",
            "wan_high",
            "i2v",
            [
                "high_noise: the name wan_low.safetensors speaks of the low-noise expert",
                "low_noise: the name wan_high.safetensors speaks of the high-noise expert",
            ],
        ),
        ("wan_low_a", "wan_low_b", "i2v", ["high_noise: the name wan_low_a.safetensors speaks of the low-noise"]),
        ("wan2.1_t2v", "wan2.2_low", "t2v", ["high_noise: wan2.1_t2v.safetensors is named as a Wan2.1 model"]),
        ("wan_high_4step", "wan_low", "i2v", ["wan_high_4step.safetensors is named as a model for a few steps and"]),
    ],
)
def test_names_only_warn(tmp_path: Path, high: str, low: str, kind: str, warnings: list[str]) -> None:
    files = [
        write_model(tmp_path / f"{name}.safetensors", expert_listing(kind), seed=seed)
        for seed, name in enumerate((high, low))
    ]
    found = check_pair(*files)["warnings"]
    assert [sentence.startswith(start) for sentence, start in zip(found, warnings, strict=True)] == [True] * len(
        warnings
    )


def test_tensors_of_no_expert_are_reported(tmp_path: Path) -> None:
    high = write_model(tmp_path / "high.safetensors", with_tensor("ip_adapter.proj.weight"), seed=1)
    low = write_model(tmp_path / "low.safetensors", expert_listing(), seed=2)
    assert check_pair(high, low)["warnings"] == [
        "high_noise: 1 tensors of high.safetensors belong to no Wan2.2 expert and are not used "
        "(first ip_adapter.proj.weight)."
    ]


def test_a_title_in_the_metadata_tells_a_distilled_model(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", expert_listing(), {"modelspec.title": "DaSiWa SnatchKiss v11 High"})
    assert check_expert(path).distilled


def test_gguf_files_are_checked_like_safetensors(tmp_path: Path) -> None:
    high = write_gguf(tmp_path / "Wan2.2-HighNoise-Q4_K_M.gguf", expert_listing(dtype="F32"))
    low = write_gguf(
        tmp_path / "Wan2.2-LowNoise-Q3_K_L.gguf", expert_listing(dtype="F16"), architecture=None, version=2
    )
    report = check_pair(high, low)
    assert [
        (report[slot]["kind"], report[slot]["precision"], report[slot]["named"]) for slot in ("high_noise", "low_noise")
    ] == [
        ("i2v", "fp32", "high_noise"),
        ("i2v", "fp16", "low_noise"),
    ]
    assert report["warnings"] == []
    t2v = write_gguf(tmp_path / "t2v.gguf", expert_listing("t2v", dtype="F32"))
    with pytest.raises(FileRefused, match=r"expected a Wan2\.2 I2V expert beside"):
        check_pair(high, t2v)
    with pytest.raises(FileRefused, match="holds the same weights"):
        check_pair(high, copy_file(high, tmp_path).rename(tmp_path / "copy.gguf"))


def gguf_of(architecture: str) -> Callable[[Path], None]:
    return lambda path: void(write_gguf(path, expert_listing(), architecture))


def void(_: object) -> None:
    return None


def cut(at: int) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(write_gguf(path, expert_listing()).read_bytes()[:at]))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (gguf_of("flux"), "Expected a GGUF file of the architecture wan, but a.gguf is 'flux'."),
        (cut(-1000), "a.gguf is cut short: it should have at least "),
        (cut(300), "Expected a GGUF file, but the header of a.gguf is damaged or cut short."),
        (cut(10), "Expected a GGUF file, but the header of a.gguf is damaged or cut short."),
        (lambda path: void(path.write_bytes(b"PK\x03\x04")), "Expected a GGUF file, but a.gguf is of another format."),
    ],
)
def test_damaged_gguf_files_are_refused(tmp_path: Path, make: Callable[[Path], None], sentence: str) -> None:
    path = tmp_path / "a.gguf"
    make(path)
    with pytest.raises(FileRefused) as refusal:
        check_expert(path)
    assert str(refusal.value).startswith(sentence)
