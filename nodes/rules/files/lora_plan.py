"""What a LoRA file does to one expert: which of its keys apply, which are harmless, which match nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..experts import HIGH_NOISE
from .expert_kind import QUANT_PARTS, wan_tensors
from .lora_keys import BOTH_EXPERTS_IN_ONE, LoraKey, read_keys
from .shown_text import shown

Shape = tuple[int, ...]
NUM_EXAMPLES = 5
# Enough blocks for every Wan network; used where the expert itself is not known.
ANY_WAN: dict[str, Shape | None] = dict.fromkeys(wan_tensors(40))
_QUANT_ENDINGS = tuple(f".{part}" for part in QUANT_PARTS)


@dataclass(frozen=True)
class Misfit:
    """A layer that the expert has in another shape than the one that the LoRA is made for."""

    layer: str
    made_for: Shape
    found: Shape

    def in_words(self, file: str, expert: str) -> str:
        made_for, found = ("x".join(map(str, shape)) for shape in (self.made_for, self.found))
        return f"{shown(self.layer)} is {made_for} in {file} and {found} in {expert}"


@dataclass(frozen=True)
class LoraPlan:
    """`applied` maps a key of the file to the key that ComfyUI reads; every key of the file is in exactly one group.

    `layers` are those that change, `misfit` is the first whose shape does not fit.
    """

    applied: dict[str, str]
    harmless: list[str]
    unmatched: list[str]
    layers: list[str]
    misfit: Misfit | None = None

    def counts(self) -> dict[str, object]:
        return {
            "applied": len(self.applied),
            "harmless": len(self.harmless),
            "unmatched": len(self.unmatched),
            "layers": len(self.layers),
            "examples": self.unmatched[:NUM_EXAMPLES],
        }


def plan_lora(lora: Mapping[str, Shape], network: Mapping[str, Shape | None], slot: str) -> LoraPlan:
    """Match the keys of a LoRA file with the parameters of an expert.

    `lora`: name -> shape of every tensor of the file. `network`: name -> shape of every parameter of the expert
    (`blocks.0.self_attn.q.weight`), None where the shape is not known. `slot`: high_noise or low_noise, which decides
    where one file holds the LoRAs of both experts. Harmless are `diff_m` keys and those of Wan2.1's image encoder,
    which a Wan2.2 expert has no place for; a key whose shape does not fit counts as unmatched.
    """
    ours, others = _keys_for_slot(lora, slot)
    layers = _layers(network)
    read = read_keys(tuple(ours), layers | _layers(ANY_WAN))  # mostly the same set, so that a file is read once
    parts: dict[str, dict[str, str]] = {}
    harmless = list(others)
    unmatched = []
    for key, meaning in read.items():
        if meaning is None:
            unmatched.append(key)
        elif meaning.leftover:
            harmless.append(key)
        elif meaning.layer not in layers:
            unmatched.append(key)
        elif meaning.part == "diff_m":
            harmless.append(key)
        elif parts.setdefault(meaning.layer, {}).setdefault(meaning.part, key) != key:
            unmatched.append(key)
    applied: dict[str, str] = {}
    changed: list[str] = []
    misfits: list[Misfit] = []
    for layer, keys in parts.items():
        fitting, misfit = _fitting_parts(layer, {part: lora[key] for part, key in keys.items()}, network)
        changed += [layer] if fitting else []
        misfits += [misfit] if misfit else []
        for part, key in keys.items():
            if part in fitting:
                applied[key] = LoraKey(layer, part).for_comfyui
            else:
                unmatched.append(key)
    return LoraPlan(applied, harmless, unmatched, changed, misfits[0] if misfits else None)


def _layers(network: Mapping[str, Shape | None]) -> frozenset[str]:
    return frozenset(name.removesuffix(".weight") for name in network if not name.endswith(_QUANT_ENDINGS))


def _keys_for_slot(lora: Mapping[str, Shape], slot: str) -> tuple[list[str], list[str]]:
    high, low = BOTH_EXPERTS_IN_ONE
    if not (any(key.startswith(high) for key in lora) and any(key.startswith(low) for key in lora)):
        return list(lora), []
    other = low if slot == HIGH_NOISE else high
    return [key for key in lora if not key.startswith(other)], [key for key in lora if key.startswith(other)]


def _fitting_parts(
    layer: str, parts: Mapping[str, Shape], network: Mapping[str, Shape | None]
) -> tuple[set[str], Misfit | None]:
    """The parts of one layer that ComfyUI will add, complete and of its shape; and what has another shape."""
    weight = network.get(f"{layer}.weight", network.get(layer))
    matrix = None if weight is None else (*weight[:1], math.prod(weight[1:]))
    fitting: set[str] = set()
    misfits: list[Misfit] = []

    def add(names: set[str], made_for: Shape | None, found: Shape | None, name: str = layer) -> None:
        if made_for is None or found is None or made_for == found:
            fitting.update(names)
        else:
            misfits.append(Misfit(name, made_for, found))

    for group in (_plain, _lokr, _loha, _glora, _orthogonal):
        names, made_for = group(parts)
        if names:
            add(names, made_for, matrix)
    if fitting:
        fitting |= parts.keys() & {"alpha", "dora_scale", "reshape_weight"}
    for part in ("diff", "set_weight", "w_norm"):
        if part in parts:
            add({part}, parts[part], weight)
    bias = f"{layer}.bias"
    for part, beside in (("diff_b", None), ("b_norm", "w_norm")):
        if part in parts and bias in network and (not beside or beside in fitting):
            add({part}, parts[part], network[bias], bias)
    return fitting, misfits[0] if misfits else None


# The functions below each know one kind of LoRA: which parts ComfyUI takes together, none where one is missing, and the
# (out, in) shape of the change that they make, None where it does not follow from their shapes.
Group = tuple[set[str], Shape | None]


def _plain(parts: Mapping[str, Shape]) -> Group:
    up, down = parts.get("lora_up.weight"), parts.get("lora_down.weight")
    if up is None or down is None or len(up) < 2 or len(down) < 2:
        return set(), None
    names = {"lora_up.weight", "lora_down.weight"}
    if "reshape_weight" in parts or "lora_mid.weight" in parts:
        return parts.keys() & {*names, "lora_mid.weight"}, None
    return (names, (up[0], math.prod(down[1:]))) if math.prod(up[1:]) == down[0] else (set(), None)


def _lokr(parts: Mapping[str, Shape]) -> Group:
    first, second = _factor(parts, "lokr_w1"), _factor(parts, "lokr_w2")
    if first is None or second is None:
        return set(), None
    names = {part for part in parts if part.startswith("lokr_")}
    return names, None if "lokr_t2" in parts else (first[0] * second[0], first[1] * second[1])


def _factor(parts: Mapping[str, Shape], name: str) -> tuple[int, int] | None:
    whole, left, right = parts.get(name), parts.get(f"{name}_a"), parts.get(f"{name}_b")
    if whole is not None and len(whole) >= 2:
        return whole[0], math.prod(whole[1:])
    if left is not None and right is not None and len(left) >= 2 and len(right) >= 2:
        return left[0], math.prod(right[1:])
    return None


def _loha(parts: Mapping[str, Shape]) -> Group:
    if any(len(parts.get(name, ())) < 2 for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")):
        return set(), None
    names = {part for part in parts if part.startswith("hada_")}
    return names, None if "hada_t1" in parts else (parts["hada_w1_a"][0], math.prod(parts["hada_w1_b"][1:]))


def _glora(parts: Mapping[str, Shape]) -> Group:
    names = {"a1.weight", "a2.weight", "b1.weight", "b2.weight"}
    return (names if names <= parts.keys() else set()), None


def _orthogonal(parts: Mapping[str, Shape]) -> Group:
    return (parts.keys() & {"oft_blocks", "rescale"} if "oft_blocks" in parts else set()), None
