"""The part of the Wan2.1 video VAE that is linear, alone: the VAE's training begins here because it is cheap.

Down: three 3x3 convolutions of stride 2, and two that halve the frame rate. Up: the same mirrored, with nearest
doubling. The first frame is never averaged over time, as in the VAE. `LinearCodec` is trained by itself in
minutes; `toy/wan_vae.py` then writes it into the VAE's layout, where the residual branches start at zero.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .sizes import PICTURE_CHANNELS, VAE_2_1

ENCODER_FEATURES = 31
DECODER_FEATURES = 7


class LinearCodec(nn.Module):
    """Video [batch, frames, 3, height, width] in [-1, 1] to latents [batch, 1 + (frames-1)/4, 15, h/8, w/8]."""

    def __init__(self) -> None:
        super().__init__()
        dim, z_dim = VAE_2_1.dim, PICTURE_CHANNELS
        self.enc_in = nn.Conv2d(3, dim, 3, padding=1)
        self.down = nn.ModuleList(
            [
                nn.Conv2d(dim, dim, 3, stride=2),
                nn.Conv2d(2 * dim, 2 * dim, 3, stride=2),
                nn.Conv2d(4 * dim, ENCODER_FEATURES, 3, stride=2),
            ]
        )
        self.widen = nn.ModuleList([nn.Conv2d(dim, 2 * dim, 1), nn.Conv2d(2 * dim, 4 * dim, 1)])
        self.halve_rate = nn.ModuleList([_pair(3, 2 * dim, 2 * dim), _pair(3, ENCODER_FEATURES, ENCODER_FEATURES)])
        self.enc_out = nn.Conv2d(ENCODER_FEATURES, z_dim, 3, padding=1)
        self.dec_in = nn.Conv2d(z_dim, 4 * dim, 3, padding=1)
        self.double_rate = nn.ModuleList([nn.Conv2d(4 * dim, 8 * dim, 1), nn.Conv2d(4 * dim, 8 * dim, 1)])
        self.up = nn.ModuleList(
            [
                nn.Conv2d(4 * dim, 2 * dim, 3, padding=1),
                nn.Conv2d(4 * dim, 2 * dim, 3, padding=1),
                nn.Conv2d(2 * dim, DECODER_FEATURES, 3, padding=1),
            ]
        )
        self.dec_widen = nn.Conv2d(2 * dim, 4 * dim, 1)
        self.dec_out = nn.Conv2d(DECODER_FEATURES, 3, 3, padding=1)

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return each_frame(self.enc_out, self.encoder_features(video))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return each_frame(self.dec_out, self.decoder_features(latents))

    def encoder_features(self, video: torch.Tensor) -> torch.Tensor:
        x = each_frame(self.enc_in, video)
        x = each_frame(self.down_layer(0), x)
        x = each_frame(self.down_layer(1), each_frame(self.widen[0], x))
        x = halve_rate(self.halve_rate[0], x)
        x = each_frame(self.down_layer(2), each_frame(self.widen[1], x))
        return halve_rate(self.halve_rate[1], x)

    def decoder_features(self, latents: torch.Tensor) -> torch.Tensor:
        x = each_frame(self.dec_in, latents)
        x = each_frame(self.up_layer(0), double_rate(self.double_rate[0], x))
        x = each_frame(self.dec_widen, x)
        x = each_frame(self.up_layer(1), double_rate(self.double_rate[1], x))
        return each_frame(self.up_layer(2), x)

    def down_layer(self, level: int):
        return lambda x: self.down[level](F.pad(x, (0, 1, 0, 1)))

    def up_layer(self, level: int):
        return lambda x: self.up[level](F.interpolate(x, scale_factor=2, mode="nearest"))


def _pair(taps: int, in_dim: int, out_dim: int) -> nn.Conv3d:
    return nn.Conv3d(in_dim, out_dim, (taps, 1, 1), stride=(2, 1, 1))


def each_frame(layer, x: torch.Tensor) -> torch.Tensor:
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def halve_rate(layer: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] == 1:
        return x
    return torch.cat([x[:, :1], layer(x.transpose(1, 2)).transpose(1, 2)], dim=1)


def double_rate(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] == 1:
        return x
    later = each_frame(layer, x[:, 1:])
    return torch.cat([x[:, :1], torch.stack(later.chunk(2, dim=2), dim=2).flatten(1, 2)], dim=1)
