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


class Moments(NamedTuple):
    """Of the linear light of one picture and another, a channel each: [3] in float64."""

    mean: torch.Tensor
    wanted_mean: torch.Tensor
    variance: torch.Tensor
    wanted_variance: torch.Tensor
    covariance: torch.Tensor

    @classmethod
    def of(cls, sums: torch.Tensor) -> Moments:
        """`sums` as `sums_of` gives them, of one pair of pictures or of several together."""
        count, *others = sums
        mean, wanted_mean, square, wanted_square, product = (each / count for each in others)
        variance, wanted_variance = square - mean**2, wanted_square - wanted_mean**2
        return cls(mean, wanted_mean, variance, wanted_variance, product - mean * wanted_mean)

    @property
    def is_flat(self) -> torch.Tensor:
        return (self.variance < FLAT**2) | (self.wanted_variance < FLAT**2)

    @property
    def correlation(self) -> float:
        """Of the channel where it is least; 1 where one is flat, NaN where one holds NaN."""
        deviations = (self.variance * self.wanted_variance).sqrt().clamp_min(1e-12)
        return float(torch.where(self.is_flat, 1.0, self.covariance / deviations).min())


def match_colour(frames: torch.Tensor, target: torch.Tensor) -> ColourChange:
    """What brings `frames` [N, H, W, 3] closest to `target` of the same shape: least squares over all their pixels.

    Both are bounded. Where the pictures do not show the same (a cut), or hold NaN, nothing is changed, and the note
    says so. One frame at a time is held in float64.
    """
    of_all, of_inside = torch.zeros(6, 3, dtype=torch.float64), torch.zeros(6, 3, dtype=torch.float64)
    for pair in zip(frames, target, strict=True):
        light, wanted = map(light_of, pair)
        inside = ((light > 0.002) & (light < 0.98) & (wanted > 0.002) & (wanted < 0.98)).all(dim=1)  # not clipped
        of_all += sums_of(light, wanted)
        of_inside += sums_of(light[inside], wanted[inside])
    moments = Moments.of(of_inside if of_inside[0, 0] >= of_all[0, 0] // 10 else of_all)
    if not moments.correlation >= LEAST_CORRELATION:  # not so for NaN
        return ColourChange(
            note="The frames that two clips share do not show the same, so their colours were not matched."
        )
    steepness = moments.covariance / moments.variance.clamp_min(1e-12)
    gain = torch.where(moments.is_flat, 1.0, steepness).clamp(1 / MAX_GAIN, MAX_GAIN)
    offset = (moments.wanted_mean - gain * moments.mean).clamp(-MAX_OFFSET, MAX_OFFSET)
    return ColourChange(tuple(gain.tolist()), tuple(offset.tolist()))


def light_of(frame: torch.Tensor) -> torch.Tensor:
    """Linear light of [H, W, 3], as [pixels, 3] in float64."""
    return to_light(frame.float().reshape(-1, 3).clamp(0, 1)).double()


def sums_of(light: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """[6, 3] of two [pixels, 3]: how many pixels, both sums, both sums of squares, the sum of products.

    Light is 0 to 1, so that what float64 loses in these is far below FLAT.
    """
    pairs = ((light, light), (wanted, wanted), (light, wanted))
    products = [(one * other).sum(dim=0) for one, other in pairs]
    return torch.stack([light.new_full((3,), len(light)), light.sum(dim=0), wanted.sum(dim=0), *products]).cpu()


def to_light(codes: torch.Tensor) -> torch.Tensor:
    """Linear light of values in the sRGB curve (IEC 61966-2-1)."""
    return torch.where(codes <= 0.04045, codes / 12.92, ((codes.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def from_light(light: torch.Tensor) -> torch.Tensor:
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
