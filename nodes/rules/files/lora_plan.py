"""What a LoRA file does to one expert: which of its keys apply, which are harmless, which match nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .expert_name import HIGH_NOISE
from .lora_keys import BOTH_EXPERTS_IN_ONE, LayerNames, LoraKey

Shape = tuple[int, ...]
NUM_EXAMPLES = 5


@dataclass(frozen=True)
class LoraPlan:
    """`applied` maps a key of the file to the key that ComfyUI reads; every key of the file is in exactly one group."""

    applied: dict[str, str]
    harmless: list[str]
    unmatched: list[str]
    num_layers: int

    def counts(self) -> dict[str, object]:
        return {
            "applied": len(self.applied),
            "harmless": len(self.harmless),
            "unmatched": len(self.unmatched),
            "layers": self.num_layers,
            "examples": self.unmatched[:NUM_EXAMPLES],
        }


def plan_lora(lora: Mapping[str, Shape], network: Mapping[str, Shape | None], slot: str) -> LoraPlan:
    """Match the keys of a LoRA file with the parameters of an expert.

    `lora`: name -> shape of every tensor of the file. `network`: name -> shape of every parameter of the expert
    (`blocks.0.self_attn.q.weight`), None where the shape is not known. `slot`: high_noise or low_noise, which decides
    where one file holds the LoRAs of both experts. Harmless are `diff_m` keys and those of Wan2.1's image encoder,
    which a Wan2.2 expert has no place for; a key whose shape does not fit counts as unmatched.
    """
    names = LayerNames(name.removesuffix(".weight") for name in network)
    ours, others = _keys_for_slot(lora, slot)
    read = {key: names.read_key(key) for key in ours}
    parts: dict[str, dict[str, str]] = {}
    harmless = list(others)
    unmatched = []
    for key, meaning in read.items():
        if meaning is None:
            unmatched.append(key)
        elif not meaning.in_network or meaning.part == "diff_m":
            harmless.append(key)
        elif parts.setdefault(meaning.layer, {}).setdefault(meaning.part, key) != key:
            unmatched.append(key)
    applied: dict[str, str] = {}
    num_layers = 0
    for layer, keys in parts.items():
        fitting = _fitting_parts(layer, {part: lora[key] for part, key in keys.items()}, network)
        num_layers += bool(fitting)
        for part, key in keys.items():
            if part in fitting:
                applied[key] = LoraKey(layer, part, True).for_comfyui
            else:
                unmatched.append(key)
    return LoraPlan(applied, harmless, unmatched, num_layers)


def _keys_for_slot(lora: Mapping[str, Shape], slot: str) -> tuple[list[str], list[str]]:
    high, low = BOTH_EXPERTS_IN_ONE
    if not (any(key.startswith(high) for key in lora) and any(key.startswith(low) for key in lora)):
        return list(lora), []
    other = low if slot == HIGH_NOISE else high
    return [key for key in lora if not key.startswith(other)], [key for key in lora if key.startswith(other)]


def _fitting_parts(layer: str, parts: Mapping[str, Shape], network: Mapping[str, Shape | None]) -> set[str]:
    """The parts of one layer that ComfyUI will add: complete, and of the layer's shape."""
    weight = network.get(f"{layer}.weight", network.get(layer))
    fitting: set[str] = set()
    for group in (_plain, _lokr, _loha, _glora, _orthogonal):
        fitting |= group(parts, weight)
    if fitting:
        fitting |= parts.keys() & {"alpha", "dora_scale", "reshape_weight"}
    fitting |= {part for part in ("diff", "set_weight", "w_norm") if part in parts and _same(parts[part], weight)}
    for part, beside in (("diff_b", None), ("b_norm", "w_norm")):
        bias = f"{layer}.bias"
        if (
            part in parts
            and bias in network
            and _same(parts[part], network[bias])
            and (not beside or beside in fitting)
        ):
            fitting.add(part)
    return fitting


def _same(shape: Shape, weight: Shape | None) -> bool:
    return weight is None or shape == weight


def _product_fits(out: int, inner: int, weight: Shape | None) -> bool:
    return weight is None or (weight[:1] == (out,) and out * inner == math.prod(weight))


def _plain(parts: Mapping[str, Shape], weight: Shape | None) -> set[str]:
    up, down = parts.get("lora_up.weight"), parts.get("lora_down.weight")
    if up is None or down is None or len(up) < 2 or len(down) < 2:
        return set()
    if "reshape_weight" in parts or "lora_mid.weight" in parts:
        return parts.keys() & {"lora_up.weight", "lora_down.weight", "lora_mid.weight"}
    if math.prod(up[1:]) != down[0] or not _product_fits(up[0], math.prod(down[1:]), weight):
        return set()
    return {"lora_up.weight", "lora_down.weight"}


def _lokr(parts: Mapping[str, Shape], weight: Shape | None) -> set[str]:
    first, second = _factor(parts, "lokr_w1"), _factor(parts, "lokr_w2")
    if first is None or second is None:
        return set()
    if "lokr_t2" not in parts and not _product_fits(first[0] * second[0], first[1] * second[1], weight):
        return set()
    return {part for part in parts if part.startswith("lokr_")}


def _factor(parts: Mapping[str, Shape], name: str) -> tuple[int, int] | None:
    whole, left, right = parts.get(name), parts.get(f"{name}_a"), parts.get(f"{name}_b")
    if whole is not None and len(whole) >= 2:
        return whole[0], math.prod(whole[1:])
    if left is not None and right is not None and len(left) >= 2 and len(right) >= 2:
        return left[0], math.prod(right[1:])
    return None


def _loha(parts: Mapping[str, Shape], weight: Shape | None) -> set[str]:
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    if any(name not in parts or len(parts[name]) < 2 for name in names):
        return set()
    out, inner = parts["hada_w1_a"][0], math.prod(parts["hada_w1_b"][1:])
    if "hada_t1" not in parts and not _product_fits(out, inner, weight):
        return set()
    return {part for part in parts if part.startswith("hada_")}


def _glora(parts: Mapping[str, Shape], weight: Shape | None) -> set[str]:
    names = {"a1.weight", "a2.weight", "b1.weight", "b2.weight"}
    return names if names <= parts.keys() else set()


def _orthogonal(parts: Mapping[str, Shape], weight: Shape | None) -> set[str]:
    return parts.keys() & {"oft_blocks", "rescale"} if "oft_blocks" in parts else set()
