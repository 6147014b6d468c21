"""What is wrong with a graph though it would run: known from file headers, names and widgets before anything loads.

Each rule gives keys with their values; locales/*/main.json has a sentence for each, `mistake_KEY`. The thresholds lie
where the authors' settings end (presets.py): base experts are made for 20 to 50 steps at guidance 3 to 5, distilled
ones for 4 to 8 steps at guidance 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..experts import HIGH_NOISE, LOW_NOISE
from ..files.expert_kind import I2V, T2V, TI2V_5B

FEWEST_BASE_STEPS = 15
MOST_DISTILLED_CFG = 2.0
PAIRS = (I2V, T2V)

Mistake = dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    """A Sample node: what its experts are, and how it is set. A missing low-noise expert has no cfg."""

    kind: str
    is_distilled: tuple[bool, bool]
    has_low_noise: bool
    steps: int
    high_noise_cfg: float
    low_noise_cfg: float
    opening_cfgs: tuple[float, ...] = ()
    has_negative: bool = False
    has_nag: bool = False


def sampling_mistakes(plan: Sampling) -> list[Mistake]:
    """What a Sample node does that its experts are not made for."""
    names = (HIGH_NOISE, LOW_NOISE)[: 2 if plan.has_low_noise else 1]
    experts = list(zip(names, plan.is_distilled, (plan.high_noise_cfg, plan.low_noise_cfg), strict=False))
    found: list[Mistake] = []
    if plan.kind in PAIRS and not plan.has_low_noise:
        found.append({"mistake": "one_expert"})
    if not any(is_distilled for _, is_distilled, _ in experts):
        if plan.steps < FEWEST_BASE_STEPS:
            found.append({"mistake": "few_steps", "steps": plan.steps})
        if plan.kind in PAIRS and all(cfg == 1 for _, _, cfg in experts):
            found.append({"mistake": "no_guidance"})
    found += [
        {"mistake": f"guided_{expert}", "cfg": cfg}
        for expert, is_distilled, cfg in experts
        if is_distilled and cfg > MOST_DISTILLED_CFG
    ]
    cfgs = [*(cfg for _, _, cfg in experts), *plan.opening_cfgs]
    if plan.has_negative and not plan.has_nag and all(cfg == 1 for cfg in cfgs):
        found.append({"mistake": "negative_unused"})
    return found


def latent_mistakes(
    kind: str | None,
    is_5b_vae: bool | None,
    has_start_image: bool,
    has_end_image: bool,
    batch_size: int,
    is_loop_shown_twice: bool = False,
    videos: int = 1,
    interpolated_videos: int | None = None,
) -> list[Mistake]:
    """What a Prepare Latent node gives to experts of this kind that cannot work, or goes where nobody expects it.

    None for what is not known. A start image is any picture but the end image; `videos` is the number of files that
    Save Video makes of the batch, `interpolated_videos` the number of videos that Interpolate Frames takes it for.
    """
    found = []
    if kind == T2V and (has_start_image or has_end_image):
        found.append("t2v_with_image")
    if kind == I2V and not (has_start_image or has_end_image):
        found.append("i2v_without_image")
    if kind in PAIRS and is_5b_vae:
        found.append("vae_of_5b")
    if kind == TI2V_5B and is_5b_vae is False:
        found.append("vae_of_a14b")
    if has_end_image and (kind == TI2V_5B or is_5b_vae):
        found.append("end_image_5b")
    if is_loop_shown_twice:
        found.append("loop_shown_twice")
    mistakes: list[Mistake] = [{"mistake": key} for key in found]
    if batch_size != videos:
        wrong: Mistake = {"mistake": "one_file"} if videos == 1 else {"mistake": "other_videos"}
        mistakes.append(wrong | {"batch_size": batch_size, "videos": videos})
    if interpolated_videos not in (None, batch_size):
        wrong = {"mistake": "other_interpolated_videos"}
        mistakes.append(wrong | {"batch_size": batch_size, "videos": interpolated_videos})
    return mistakes
