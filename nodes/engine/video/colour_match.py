"""The colour of one clip brought to that of another, measured on frames that both show.

An autoencoder and a few steps of sampling shift colours a little, always the same way, so that a video which goes on
from its own last frame drifts. One gain and one offset a channel take that back. They are measured once a clip, so
that nothing pumps, and applied to linear light, where a change of exposure or white balance is a gain.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

MAX_GAIN = 1.25  # and its inverse; more than an autoencoder does, so the pictures differ in something else
MAX_OFFSET = 0.05  # of linear light
LEAST_CORRELATION = 0.7  # below it the frames do not show the same
FLAT = 1e-4  # standard deviation of linear light below which there is nothing to fit a gain to


class ColourChange(NamedTuple):
    """`gain` * light + `offset`, a channel each; `note` says why it is none where frames differ too much."""

    gain: tuple[float, ...] = (1.0, 1.0, 1.0)
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    note: str | None = None

    @property
    def is_none(self) -> bool:
        return set(self.gain) == {1.0} and set(self.offset) == {0.0}

    def apply(self, frames: torch.Tensor) -> torch.Tensor:
        """[..., 3] in 0..1, in the sRGB curve before and after."""
        if self.is_none:
            return frames
        return changed(frames, torch.tensor(self.gain), torch.tensor(self.offset))


def changed(frames: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """[..., 3] in 0..1 with `gain` * light + `offset`, which broadcast to `frames`."""
    gain, offset = (values.to(frames.device, torch.float32) for values in (gain, offset))
    return from_light((to_light(frames.float()) * gain + offset).clamp_(0.0, 1.0)).to(frames.dtype)


def match_colour(frames: torch.Tensor, target: torch.Tensor) -> ColourChange:
    """What brings `frames` [N, H, W, 3] closest to `target` of the same shape: least squares over all their pixels.

    Both are bounded. Where the pictures do not show the same (a cut), nothing is changed, and the note says so.
    """
    light, wanted = (to_light(pixels.float().reshape(-1, 3).clamp(0, 1)).double() for pixels in (frames, target))
    inside = ((light > 0.002) & (light < 0.98) & (wanted > 0.002) & (wanted < 0.98)).all(dim=1)  # not clipped
    if inside.sum() >= len(light) // 10:
        light, wanted = light[inside], wanted[inside]
    mean, wanted_mean = light.mean(dim=0), wanted.mean(dim=0)
    variance, wanted_variance = light.var(dim=0, correction=0), wanted.var(dim=0, correction=0)
    covariance = ((light - mean) * (wanted - wanted_mean)).mean(dim=0)
    is_flat = (variance < FLAT**2) | (wanted_variance < FLAT**2)
    correlation = torch.where(is_flat, 1.0, covariance / (variance * wanted_variance).sqrt().clamp_min(1e-12))
    if correlation.min() < LEAST_CORRELATION:
        return ColourChange(
            note="The frames that two clips share do not show the same, so their colours were not matched."
        )
    gain = torch.where(is_flat, 1.0, covariance / variance.clamp_min(1e-12)).clamp(1 / MAX_GAIN, MAX_GAIN)
    offset = (wanted_mean - gain * mean).clamp(-MAX_OFFSET, MAX_OFFSET)
    return ColourChange(tuple(gain.tolist()), tuple(offset.tolist()))


def to_light(codes: torch.Tensor) -> torch.Tensor:
    """Linear light of values in the sRGB curve (IEC 61966-2-1)."""
    return torch.where(codes <= 0.04045, codes / 12.92, ((codes.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def from_light(light: torch.Tensor) -> torch.Tensor:
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
