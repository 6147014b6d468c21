"""What a file's name tells about it. No weight tells high noise from low noise, so a name can only warn."""

import re
from itertools import pairwise
from pathlib import PurePath

from ..experts import HIGH_NOISE, LOW_NOISE

_BOTH_WORDS = re.compile(r"(?<![a-z])(hi|high|lo|low)[\s._-]?noise", re.IGNORECASE)
_WORDS = re.compile(
    r"[vV]\d+(?:\.\d+)*"  # v10, V8.1
    r"|[A-Z]+(?=[vV]\d)"  # HIGH of HIGHV81
    r"|[A-Z]+(?![a-z])"  # HIGH
    r"|[A-Z]?[a-z]+"  # High, high
    r"|\d+"
)
# "high_res" and "low_vram" speak of something else than the noise level.
OTHER_MEANINGS = {
    "angle", "bit", "bitrate", "cfg", "contrast", "detail", "details", "end", "fidelity", "fps", "key", "kick", "light",
    "lighting", "mem", "memory", "motion", "pass", "poly", "quality", "ram", "rank", "res", "resolution", "rez", "shot",
    "speed", "step", "steps", "vram",
}  # fmt: skip
_LETTERS = {"H": HIGH_NOISE, "L": LOW_NOISE}

_REMIX = r"wan[\s._-]?2[._]?2[\s._-]?remix"  # whose "high_lighting" means lightning
_FEW_STEPS = (
    r"(?:lightx2v|lightning|light[\s._-]?speed|(?<!\d)[468][\s._-]?steps?(?![a-z])|distill|dasiwa|smooth[\s._-]?mix"
    r"|tastysin|synth[\s._-]?seduction|boundbite|snatchkiss|causvid|accvid|self[\s._-]?forcing|fusionx|rapid"
    rf"|fast[\s._-]?wan|fastmove(?!ment|s)|dmd2?(?![a-z])|turbo|(?<![a-z])rcm(?![a-z])|{_REMIX})"
)
_IS_DISTILLED = re.compile(_FEW_STEPS, re.IGNORECASE)
_IS_NOT_DISTILLED = re.compile(rf"(?:(?<![A-Za-z])(?i:no)|No)(?i:[nt]?[\s._-]?{_FEW_STEPS})")
# A name of nothing but these words, single letters and digits says only which expert it is, or less.
_PLAIN_WORDS = {
    "high", "low", "noise", "highnoise", "lownoise", "model", "lora", "expert", "transformer", "diffusion", "pytorch",
    "weights", "adapter", "rank", "fp", "bf", "int", "fn", "scaled", "safetensors", "sft", "gguf",
}  # fmt: skip
_WAN_2_1 = re.compile(r"wan[\s._-]?(video)?[\s._-]?2[._]?1(?!\d)", re.IGNORECASE)


def expert_from_name(path: str | PurePath) -> str | None:
    """ "high_noise", "low_noise" or None for a file name, or for its folder where the name itself does not say.

    The word must stand alone or begin a camel-case part (`i2vHigh`, `tastysinHighV81`): `slow` and `highway` do not
    count, nor does a word that means something else (`high_res`); a name with both words tells nothing.
    """
    *folders, name = path_parts(path) or [""]
    experts = _experts_in(PurePath(name).stem)
    if not experts and folders:
        experts = _experts_in(folders[-1])
    return experts.pop() if len(experts) == 1 else None


def is_distilled_name(name: str) -> bool:
    """Whether a name or title is that of a checkpoint or LoRA made for a few steps (Lightning, DaSiWa, SmoothMix)."""
    return _IS_DISTILLED.search(name) is not None and _IS_NOT_DISTILLED.search(name) is None


def is_distilled_file(path: str | PurePath) -> bool:
    """The same for a file: by its name, or by its folder where the name says no more than `high_noise_model` does."""
    return is_distilled_name(next((part for part in path_parts(path)[::-1] if not is_plain(part)), ""))


def is_wan_2_1_name(name: str) -> bool:
    """Whether a file calls itself Wan2.1; its shapes cannot tell a Wan2.1 T2V model from a Wan2.2 expert."""
    return _WAN_2_1.search(name) is not None


def words_of(name: str) -> list[str]:
    """The words and numbers of a name, camel case taken apart; a version (`v8.1`) is one word."""
    return [word for part in re.split(r"[^A-Za-z0-9.]+|\.(?!\d)", name) for word in _WORDS.findall(part)]


def path_parts(path: str | PurePath) -> tuple[str, ...]:
    """The folders and the file of a path that may be written for Windows."""
    return PurePath(str(path).replace("\\", "/")).parts


def is_plain(name: str) -> bool:
    """Whether a name holds nothing but words such as those of `high_noise_model`."""
    return all(len(word) == 1 or word in _PLAIN_WORDS for word in re.findall(r"[^\W\d_]+", name.lower()))


def _experts_in(name: str) -> set[str]:
    both = {HIGH_NOISE if word.lower().startswith("h") else LOW_NOISE for word in _BOTH_WORDS.findall(name)}
    is_remix = re.search(_REMIX, name, re.IGNORECASE)
    other_meanings = OTHER_MEANINGS - {"lighting"} if is_remix else OTHER_MEANINGS
    for word, following in pairwise([*words_of(name), ""]):
        lowered = word.lower()
        if lowered in ("high", "low") and following.lower() not in other_meanings:
            both.add(f"{lowered}_noise")
    return both or _experts_by_letter(name)


def _experts_by_letter(name: str) -> set[str]:
    """`...FP8H`, `...Q4KMH` and `Wan2_2-I2V-H-LS-...`, but not the sizes of GGUF (`Q3_K_L`, `Q3KL`)."""
    parts = re.split(r"[\s._-]+", name)
    found = set()
    for previous, part in zip(["", *parts[:-1]], parts, strict=True):
        if part in _LETTERS and not re.fullmatch(r"K|XL|ViT", previous, re.IGNORECASE):
            found.add(_LETTERS[part])
        glued = re.search(r"(?i:fp8|fp16|bf16|int8|q\d|q\dk[sm]|q[26]k)([HL])$", part)
        if glued:
            found.add(_LETTERS[glued.group(1)])
    return found
