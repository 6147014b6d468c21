"""What a file's name tells about it. No weight tells high noise from low noise, so a name can only warn."""

import re
from itertools import pairwise
from pathlib import PurePath

HIGH_NOISE = "high_noise"
LOW_NOISE = "low_noise"

_BOTH_WORDS = re.compile(r"(?<![a-z])(high|low)[\s._-]?noise", re.IGNORECASE)
_WORDS = re.compile(
    r"[vV]\d+(?:\.\d+)*"  # v10, V8.1
    r"|[A-Z]+(?=[vV]\d)"  # HIGH of HIGHV81
    r"|[A-Z]+(?![a-z])"  # HIGH
    r"|[A-Z]?[a-z]+"  # High, high
    r"|\d+"
)
# "high_res" and "low_vram" speak of something else than the noise level.
_OTHER_MEANINGS = {
    "angle", "bit", "bitrate", "cfg", "contrast", "detail", "details", "end", "fidelity", "fps", "key", "kick", "light",
    "lighting", "mem", "memory", "motion", "pass", "poly", "quality", "ram", "rank", "res", "resolution", "rez", "shot",
    "speed", "step", "steps", "vram",
}  # fmt: skip
_LETTERS = {"H": HIGH_NOISE, "L": LOW_NOISE}

_DISTILLED = re.compile(
    r"(?<!no)(?<!no[\s._-])(?<!non)(?<!non[\s._-])"
    r"(lightx2v|lightning|light[\s._-]?speed|(?<!\d)[468][\s._-]?steps?(?![a-z])|distill|dasiwa|smooth[\s._-]?mix"
    r"|tastysin|synth[\s._-]?seduction|boundbite|snatchkiss|causvid|accvid|self[\s._-]?forcing|fusionx|rapid"
    r"|fast[\s._-]?wan|dmd2?(?![a-z])|turbo)",
    re.IGNORECASE,
)
_WAN_2_1 = re.compile(r"wan[\s._-]?(video)?[\s._-]?2[._]?1(?!\d)", re.IGNORECASE)


def expert_from_name(path: str | PurePath) -> str | None:
    """ "high_noise", "low_noise" or None for a file name, or for its folder where the name itself does not say.

    The word must stand alone or begin a camel-case part (`i2vHigh`, `tastysinHighV81`): `slow` and `highway` do not
    count, nor does a word that means something else (`high_res`); a name with both words tells nothing.
    """
    path = PurePath(str(path).replace("\\", "/"))
    experts = _experts_in(path.stem)
    if not experts and len(path.parts) > 1:
        experts = _experts_in(path.parent.name)
    return experts.pop() if len(experts) == 1 else None


def is_distilled_name(name: str) -> bool:
    """Whether a name or title is that of a checkpoint or LoRA made for a few steps (Lightning, DaSiWa, SmoothMix)."""
    return _DISTILLED.search(name) is not None


def is_wan_2_1_name(name: str) -> bool:
    """Whether a file calls itself Wan2.1; its shapes cannot tell a Wan2.1 T2V model from a Wan2.2 expert."""
    return _WAN_2_1.search(name) is not None


def _experts_in(name: str) -> set[str]:
    both = {f"{word.lower()}_noise" for word in _BOTH_WORDS.findall(name)}
    words = [word for part in re.split(r"[^A-Za-z0-9.]+|\.(?!\d)", name) for word in _WORDS.findall(part)]
    for word, following in pairwise([*words, ""]):
        lowered = word.lower()
        if lowered in ("high", "low") and following.lower() not in _OTHER_MEANINGS:
            both.add(f"{lowered}_noise")
    return both or _experts_by_letter(name)


def _experts_by_letter(name: str) -> set[str]:
    """`...FP8H` and `Wan2_2-I2V-H-LS-...`, but not the sizes of GGUF (`Q3_K_L`)."""
    parts = re.split(r"[\s._-]+", name)
    found = set()
    for previous, part in zip(["", *parts[:-1]], parts, strict=True):
        if part in _LETTERS and not re.fullmatch(r"K|XL|ViT", previous, re.IGNORECASE):
            found.add(_LETTERS[part])
        glued = re.search(r"(?i:fp8|fp16|bf16|int8|q\d)([HL])$", part)
        if glued:
            found.add(_LETTERS[glued.group(1)])
    return found
