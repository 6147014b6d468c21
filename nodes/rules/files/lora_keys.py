"""Which weight of a Wan network a LoRA key means.

ComfyUI applies `diffusion_model.<layer>.<part>` and the kohya form `lora_unet_<layer>.<part>`, and skips every other
style with a log line per key. Here every style that names its layer without doubt is translated to the first form.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

# Parts of the plain LoRA format under all their names -> the name that is used here.
_PLAIN_PARTS = {
    ".lora_up.weight": "lora_up.weight",
    ".lora_down.weight": "lora_down.weight",
    ".lora_B.weight": "lora_up.weight",
    ".lora_A.weight": "lora_down.weight",
    ".lora.up.weight": "lora_up.weight",
    ".lora.down.weight": "lora_down.weight",
    "_lora.up.weight": "lora_up.weight",
    "_lora.down.weight": "lora_down.weight",
    ".lora_linear_layer.up.weight": "lora_up.weight",
    ".lora_linear_layer.down.weight": "lora_down.weight",
    ".lora_B": "lora_up.weight",
    ".lora_A": "lora_down.weight",
}
_OTHER_PARTS = (
    "lora_mid.weight", "alpha", "dora_scale", "reshape_weight",
    "diff", "diff_b", "diff_m", "set_weight", "w_norm", "b_norm",
    "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "a1.weight", "a2.weight", "b1.weight", "b2.weight", "oft_blocks", "rescale",
)  # fmt: skip
_PARTS = {**_PLAIN_PARTS, **{f".{part}": part for part in _OTHER_PARTS}}
_LONGEST_FIRST = sorted(_PARTS, key=len, reverse=True)
# PEFT writes the name of the adapter into the key: lora_A.default.weight.
_PEFT_PART = re.compile(r"\.lora_([AB])\.[^.]+\.weight$")

_DOTTED_PREFIXES = (
    "base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "transformer_2.", "model.",
    "unet.", "pipe.dit.", "dit.", "net.", "module.",
)  # fmt: skip
_GLUED_PREFIXES = ("lora_unet_", "lora_transformer_2_", "lora_transformer_", "lycoris_", "lora_diffusion_model_")
# diffusers saves the LoRAs of both experts in one file under these two names, the high-noise one first.
BOTH_EXPERTS_IN_ONE = ("transformer.", "transformer_2.")

# The layers of a diffusers Wan transformer -> the names of the original, which ComfyUI uses.
_DIFFUSERS_TRUNK = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
}
_DIFFUSERS_BLOCK = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}
# The image encoder of Wan2.1 I2V, which no Wan2.2 model has.
_WAN_2_1_ONLY = ("img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4", "img_emb.emb_pos")
_WAN_2_1_ONLY_IN_BLOCK = ("cross_attn.k_img", "cross_attn.v_img", "cross_attn.norm_k_img")


@dataclass(frozen=True, slots=True)
class LoraKey:
    """A key of a LoRA file, translated: `layer` is the name in the network, `part` what the tensor is for it.

    `leftover`: the layer belongs to Wan2.1's image encoder.
    """

    layer: str
    part: str
    leftover: bool = False

    @property
    def for_comfyui(self) -> str:
        return f"diffusion_model.{self.layer}.{self.part}"


@lru_cache(maxsize=8)
def read_keys(keys: tuple[str, ...], layers: frozenset[str]) -> Mapping[str, LoraKey | None]:
    """Every key with what it means in the network of these layers (see `LayerNames`); None where it means nothing.

    Kept for the last files, since one is asked about when its job is queued and again when it runs.
    """
    names = _layer_names(layers)
    return MappingProxyType({key: names.read_key(key) for key in keys})


class LayerNames:
    """All layers of one network under every name by which a LoRA can mean them."""

    def __init__(self, layers: Iterable[str]) -> None:
        """`layers`: weight names without `.weight`, and other parameters (modulation, biases) by their full name."""
        self._layers = set(layers)
        names = {name: name for name in self._layers}
        blocks = sorted({".".join(name.split(".")[:2]) for name in self._layers if name.startswith("blocks.")})
        wan_2_1 = [*_WAN_2_1_ONLY, *(f"{block}.{name}" for block in blocks for name in _WAN_2_1_ONLY_IN_BLOCK)]
        names.update({name: name for name in wan_2_1})
        for alias, name in [*_DIFFUSERS_TRUNK.items(), *_aliases_in(blocks)]:
            if name in names:
                names.setdefault(alias, name)
        owners = {name.removesuffix(".modulation"): name for name in self._layers if name.endswith(".modulation")}
        self._names = {**owners, **names}  # blocks.0.diff_m speaks of blocks.0.modulation
        self._glued = _unambiguous((name.replace(".", "_"), layer) for name, layer in self._names.items())

    def read_key(self, key: str) -> LoraKey | None:
        """Translate a key; None when it does not name a layer of a Wan network and a known part."""
        path, part = _split_part(key)
        layer = self._layer(path) if part else None
        return LoraKey(layer, part, layer not in self._layers) if layer else None

    def _layer(self, path: str) -> str | None:
        for prefix in _GLUED_PREFIXES:
            if path.startswith(prefix):
                return self._glued.get(path.removeprefix(prefix).lstrip("_"))
        while path not in self._names:
            shorter = next((path.removeprefix(prefix) for prefix in _DOTTED_PREFIXES if path.startswith(prefix)), None)
            if shorter is None:
                return None
            path = shorter
        return self._names[path]


@lru_cache(maxsize=2)
def _layer_names(layers: frozenset[str]) -> LayerNames:
    return LayerNames(layers)


def _split_part(key: str) -> tuple[str, str]:
    peft = _PEFT_PART.search(key)
    if peft:
        return key[: peft.start()], "lora_up.weight" if peft[1] == "B" else "lora_down.weight"
    for ending in _LONGEST_FIRST:
        if key.endswith(ending):
            return key[: -len(ending)], _PARTS[ending]
    return key, ""


def _aliases_in(blocks: list[str]) -> list[tuple[str, str]]:
    return [(f"{block}.{alias}", f"{block}.{name}") for block in blocks for alias, name in _DIFFUSERS_BLOCK.items()]


def _unambiguous(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    table: dict[str, str] = {}
    ambiguous = set()
    for glued, layer in pairs:
        if table.setdefault(glued, layer) != layer:
            ambiguous.add(glued)
    return {glued: layer for glued, layer in table.items() if glued not in ambiguous}
