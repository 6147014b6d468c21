"""The frame of a clip that is no frame of the video: SVI 2.0 Pro begins each clip with its anchor picture.

Behind the anchor come the last frames of the clip before. So of the frames that two clips share the first shows the
anchor in the one and the video in the other, and neither tells anything about colours nor can be blended.
"""

from __future__ import annotations

import torch

from .colour_match import LEAST_CORRELATION, Moments, light_of, sums_of

OUTLIER = 2.0  # times as unlike as the least alike of the others
NOISE = 0.02  # of correlation


def num_anchors(frames: torch.Tensor, target: torch.Tensor) -> int:
    """1 where the first of `frames` [N, H, W, 3] shows another picture than `target` has there, while all others show
    theirs; else 0."""
    if len(frames) < 2:
        return 0
    pairs = ((light_of(frame), light_of(wanted)) for frame, wanted in zip(frames, target, strict=True))
    first, *others = (Moments.of(sums_of(*pair)).correlation for pair in pairs)
    alike = min(others)
    return int(alike >= LEAST_CORRELATION and 1 - first > OUTLIER * (1 - alike) + NOISE)
