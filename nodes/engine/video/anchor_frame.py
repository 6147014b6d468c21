"""The frame of a clip that is no frame of the video: SVI 2.0 Pro begins each clip with its anchor picture.

Behind the anchor come the last frames of the clip before. So of the frames that two clips share the first shows the
anchor in the one and the video in the other, and neither tells anything about colours nor can be blended.
"""

from __future__ import annotations

import torch

from .colour_match import FLAT, LEAST_CORRELATION, to_light

OUTLIER = 2.0  # times as unlike as the least alike of the others
NOISE = 0.02  # of correlation


def num_anchors(frames: torch.Tensor, target: torch.Tensor) -> int:
    """1 where the first of `frames` [N, H, W, 3] shows another picture than `target` has there, while all others show
    theirs; else 0."""
    if len(frames) < 2:
        return 0
    first, *others = (correlation(frame, wanted) for frame, wanted in zip(frames, target, strict=True))
    alike = min(others)
    return int(alike >= LEAST_CORRELATION and 1 - first > OUTLIER * (1 - alike) + NOISE)


def correlation(frame: torch.Tensor, other: torch.Tensor) -> float:
    """Of the linear light of two pictures [H, W, 3], that of the channel where it is least; 1 where one is flat."""
    light, wanted = (to_light(pixels.float().reshape(-1, 3).clamp(0, 1)).double() for pixels in (frame, other))
    light, wanted = light - light.mean(dim=0), wanted - wanted.mean(dim=0)
    deviation, wanted_deviation = light.square().mean(dim=0).sqrt(), wanted.square().mean(dim=0).sqrt()
    is_flat = (deviation < FLAT) | (wanted_deviation < FLAT)
    product = (light * wanted).mean(dim=0) / (deviation * wanted_deviation).clamp_min(1e-12)
    return float(torch.where(is_flat, 1.0, product).min())
