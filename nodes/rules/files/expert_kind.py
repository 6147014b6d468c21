"""Which Wan network a list of tensors is, told from names and shapes alone.

The rules are those by which ComfyUI recognises the networks (comfy/model_detection.py), sharpened for the cases that
ComfyUI loads as something else. Widths and depths are never compared with fixed numbers: small members of the family
are recognised like large ones.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..errors import FileRefused
from .shown_text import shown

I2V = "i2v"
T2V = "t2v"
TI2V_5B = "ti2v_5b"
WAN_2_1_I2V = "wan2.1_i2v"
OTHER_WAN = "other_wan"

KIND_NAMES = {
    I2V: "a Wan2.2 I2V expert",
    T2V: "a Wan T2V expert",
    TI2V_5B: "the Wan2.2 TI2V-5B model",
    WAN_2_1_I2V: "a Wan2.1 I2V model (it has an image encoder)",
    "fun_camera": "a Wan Fun-Camera model",
    "fun_control": "a Wan Fun-Control model",
    "animate": "a Wan Animate model",
    "vace": "a Wan VACE model",
    "s2v": "a Wan S2V (speech) model",
    "humo": "a HuMo model",
    "scail": "a SCAIL model",
    "wandancer": "a WanDancer model",
    OTHER_WAN: "a Wan variant that is not known here",
}

# The tensor that marks each variant; the order is ComfyUI's.
_MARKS = (
    ("vace_patch_embedding.weight", "vace"),
    ("control_adapter.conv.weight", "fun_camera"),
    ("casual_audio_encoder.encoder.final_linear.weight", "s2v"),
    ("audio_proj.audio_proj_glob_1.layer.bias", "humo"),
    ("face_adapter.fuser_blocks.0.k_norm.weight", "animate"),
    ("patch_embedding_mask.weight", "scail"),
    ("patch_embedding_pose.weight", "scail"),
    ("patch_embedding_global.weight", "wandancer"),
    ("ref_conv.weight", "fun_control"),
)

_LINEAR = ("weight", "bias")
TRUNK_TENSORS = (
    *(
        f"{layer}.{part}"
        for layer in (
            "patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2",
            "time_projection.1", "head.head",
        )
        for part in _LINEAR
    ),
    "head.modulation",
)  # fmt: skip
BLOCK_TENSORS = (
    "modulation",
    *(
        f"{attention}.{layer}.{part}"
        for attention in ("self_attn", "cross_attn")
        for layer in "qkvo"
        for part in _LINEAR
    ),
    *(f"{attention}.{norm}.weight" for attention in ("self_attn", "cross_attn") for norm in ("norm_q", "norm_k")),
    *(f"{layer}.{part}" for layer in ("norm3", "ffn.0", "ffn.2") for part in _LINEAR),
)
# What a quantised file adds beside a weight.
QUANT_PARTS = (
    "weight_scale", "weight_scale_2", "scale_weight", "weight_scale_inv", "input_scale", "scale_input", "comfy_quant",
    "pre_quant_scale",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """The Wan network inside a file: `prefix` stands before every one of its names."""

    kind: str
    prefix: str
    in_dim: int
    out_dim: int
    dim: int
    ffn_dim: int
    num_layers: int
    num_tensors: int
    unknown: tuple[str, ...]


def wan_tensors(num_layers: int) -> list[str]:
    """The names of all tensors of a plain Wan expert with that many blocks (1095 for 40)."""
    blocks = [f"blocks.{index}.{name}" for index in range(num_layers) for name in BLOCK_TENSORS]
    return [*TRUNK_TENSORS, *blocks]


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Network:
    """Tell which Wan network the named shapes are.

    Raises FileRefused, one sentence, when they are not a Wan network, or only a part of one.
    """
    prefix = _find_prefix(shapes)
    own = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    num_layers = _count_blocks(own)
    expected = wan_tensors(num_layers)
    _refuse_incomplete(own, expected)
    patch, head = own["patch_embedding.weight"], own["head.head.weight"]
    modulation, ffn = own["head.modulation"], own["blocks.0.ffn.0.weight"]
    if len(patch) < 2 or not (head and modulation and ffn):
        raise FileRefused("its tensors do not have the shapes of a Wan network")
    in_dim, out_dim = patch[1], head[0] // 4
    return Network(
        kind=_kind(own, in_dim, out_dim),
        prefix=prefix,
        in_dim=in_dim,
        out_dim=out_dim,
        dim=modulation[-1],
        ffn_dim=ffn[0],
        num_layers=num_layers,
        num_tensors=len(own),
        unknown=_unknown(own, expected),
    )


def _find_prefix(names: Collection[str]) -> str:
    mark = "head.modulation"
    prefixes = [
        name[: -len(mark)]
        for name in names
        if name.endswith(mark) and (name == mark or name[-len(mark) - 1] == ".")
        and f"{name[: -len(mark)]}patch_embedding.weight" in names
    ]  # fmt: skip
    if len(prefixes) == 1:
        return prefixes[0]
    if len(prefixes) > 1:
        listed = shown(", ".join(sorted(prefixes)))
        raise FileRefused(f"it holds {len(prefixes)} Wan networks ({listed}), and one is expected")
    raise FileRefused(_what_it_is_instead(names))


def _what_it_is_instead(names: Collection[str]) -> str:
    def any_name(*parts: str) -> bool:
        return any(part in name for name in names for part in parts)

    if any_name("condition_embedder.") or any_name("attn1.to_q."):
        return "it has the diffusers layout, which ComfyUI cannot load; get the single file made for ComfyUI"
    if any_name(".lora_", ".lokr_", ".hada_", ".diff_b") or any(name.endswith(".diff") for name in names):
        return "it is a LoRA, which belongs in an Apply LoRA node"
    if any_name("blocks.") and any_name("self_attn.q."):
        return "it holds only a part of a Wan network (one shard, or an add-on module)"
    return "it does not hold a Wan network"


def _count_blocks(names: Collection[str]) -> int:
    numbers = {int(match[1]) for name in names if (match := re.match(r"blocks\.(\d{1,3})\.", name))}
    return max(numbers, default=0) + 1


def _refuse_incomplete(own: Collection[str], expected: list[str]) -> None:
    missing = [name for name in expected if name not in own]
    if missing:
        raise FileRefused(
            f"it lacks {len(missing)} of the {len(expected)} tensors of a Wan network (first {missing[0]}); "
            "ComfyUI would fill them with noise"
        )


def _kind(own: Mapping[str, tuple[int, ...]], in_dim: int, out_dim: int) -> str:
    for mark, kind in _MARKS:
        if mark in own:
            return kind
    if "img_emb.proj.0.bias" in own:
        return WAN_2_1_I2V if in_dim == 36 else "fun_control"
    kinds = {(36, 16): I2V, (16, 16): T2V, (48, 48): TI2V_5B, (48, 16): "fun_control", (52, 16): "fun_control"}
    return kinds.get((in_dim, out_dim), OTHER_WAN)


def _unknown(own: Collection[str], expected: Collection[str]) -> tuple[str, ...]:
    known = {*expected, "scaled_fp8"}

    def belongs_to_known(name: str) -> bool:
        layer, _, part = name.rpartition(".")
        return part in QUANT_PARTS and f"{layer}.weight" in known

    return tuple(sorted(name for name in own if name not in known and not belongs_to_known(name)))
