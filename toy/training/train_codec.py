"""Trains the linear codec: principal components level by level, then gradient descent on all of it together."""

import random
from pathlib import Path

import torch
import torch.nn.functional as F

from ..linear_codec import LinearCodec, double_rate, each_frame, halve_rate
from ..sizes import PICTURE_CHANNELS, VAE_2_1
from . import data
from .saved_training import resume, train_steps

STEPS, LEARNING_RATE = 2400, 2e-3
NUM_CLIPS, CLIP_FRAMES, CLIP_SIZE, CROP = 240, 9, 96, 48
_MERGED = (24, 21)  # channels that a halved frame rate averages at each level; the rest hold differences


def codec_clips(count: int) -> torch.Tensor:
    """Training clips number 0 to `count`: [count, 9, 3, 96, 96] in [-1, 1]."""
    clips = (data.make_clip(seed, CLIP_FRAMES, CLIP_SIZE, CLIP_SIZE).frames for seed in range(count))
    return torch.stack(list(clips)) * 2 - 1


def train_codec(path: Path) -> LinearCodec:
    """The codec after STEPS steps; `path` keeps its state and is resumed."""
    clips, codec = codec_clips(NUM_CLIPS), LinearCodec()
    optimizer = torch.optim.Adam(codec.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    first_step = resume(path, codec, optimizer)
    torch.manual_seed(first_step)
    if first_step == 0:
        start_from_components(codec, clips[:48, :, :, :64, :64])
    rng = random.Random(first_step)
    steps = range(first_step, STEPS)
    train_steps(path, codec, optimizer, steps, _rate_share, lambda _: _loss(codec, _crops(clips, rng)))
    return codec


def _rate_share(step: int) -> float:
    """A short rise, then a fall to 3 % over the last 70 % of the steps."""
    fall = 0.03 ** (max(0.0, step - 0.3 * STEPS) / (0.7 * STEPS))
    return min(1.0, (step + 1) / 30) * fall


def _crops(clips: torch.Tensor, rng: random.Random) -> torch.Tensor:
    rows = torch.randint(0, len(clips), (6,))
    top, left = rng.randrange(CLIP_SIZE - CROP + 1), rng.randrange(CLIP_SIZE - CROP + 1)
    first = rng.choice((0, 4))
    return clips[rows][:, first : first + 5, :, top : top + CROP, left : left + CROP]


def _loss(codec: LinearCodec, clips: torch.Tensor) -> torch.Tensor:
    """Squared error, the first frame counted more, with a little noise on the latents so that they stay robust."""
    latents = codec.encode(clips)
    made = codec.decode(latents + 0.03 * torch.randn_like(latents) * latents.std())
    return (made - clips).pow(2).mean() + 0.5 * (made[:, 0] - clips[:, 0]).pow(2).mean()


@torch.no_grad()
def start_from_components(codec: LinearCodec, clips: torch.Tensor) -> None:
    """Encoder: principal components of 2x2 blocks at each level. Decoder: least squares, each level from the last."""
    for layer in codec.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            layer.weight.zero_()
            layer.bias.zero_()
    dim = VAE_2_1.dim
    codec.enc_in.weight[:3, :, 1, 1] = torch.eye(3)
    for layer, width in zip(codec.widen, (dim, 2 * dim), strict=True):
        layer.weight[:width, :, 0, 0] = torch.eye(width)
    pixels = each_frame(codec.enc_in, clips)
    _set_down(codec.down[0], _components(_blocks(pixels[:, :, :3]), 12))
    half = each_frame(codec.down_layer(0), pixels)
    _set_down(codec.down[1], _components(_blocks(half[:, :, :12]), 2 * dim))
    quarter = each_frame(codec.down_layer(1), each_frame(codec.widen[0], half))
    _set_merge(codec.halve_rate[0], _MERGED[0])
    merged = halve_rate(codec.halve_rate[0], quarter)
    features = codec.down[2].weight.shape[0]
    both = torch.cat([merged[:, :1], merged], dim=1)  # first frames twice: they must be sharp
    _set_down(codec.down[2], _components(_blocks(both), features))
    eighth = each_frame(codec.down_layer(2), each_frame(codec.widen[1], merged))
    _set_merge(codec.halve_rate[1], _MERGED[1])
    last = halve_rate(codec.halve_rate[1], eighth)
    first, later = _columns(last[:, 0]), _columns(last[:, 1:].flatten(0, 1))
    codec.enc_out.weight[:, :, 1, 1] = _components(torch.cat([first, first, later]), PICTURE_CHANNELS)
    _fit_decoder(codec, clips, half, quarter, merged, eighth)
    for parameter in codec.parameters():
        if parameter.ndim > 1:
            parameter += 0.01 * parameter.std() * torch.randn_like(parameter)


def _fit_decoder(codec: LinearCodec, clips, half, quarter, merged, eighth) -> None:
    features, dim = eighth.shape[2], VAE_2_1.dim
    latents = codec.encode(clips)
    _set_conv(codec.dec_in, _solve(_neighbours(latents[:, 0], up=False), _columns(eighth[:, 0])))
    for channel in range(PICTURE_CHANNELS):
        codec.dec_in.weight[features + channel, channel, 1, 1] = 1.0
    x = each_frame(codec.dec_in, latents)
    _fit_doubling(codec.double_rate[0], x, eighth)
    x = double_rate(codec.double_rate[0], x)
    x[:, :, features:] = 0.0
    _set_conv(codec.up[0], _solve(_neighbours(x[:, :, :features].flatten(0, 1)), _columns(merged.flatten(0, 1))))
    codec.dec_widen.weight[: 2 * dim, :, 0, 0] = torch.eye(2 * dim)
    x = each_frame(codec.dec_widen, each_frame(codec.up_layer(0), x))
    _fit_doubling(codec.double_rate[1], x, quarter)
    x = double_rate(codec.double_rate[1], x)[:, :, : 2 * dim]
    _set_conv(codec.up[1], _solve(_neighbours(x.flatten(0, 1)[::3]), _columns(half.flatten(0, 1)[::3])))
    x = each_frame(codec.up_layer(1), F.pad(x, (0, 0, 0, 0, 0, 2 * dim)))[:, :, :dim]
    _set_conv(codec.up[2], _solve(_neighbours(x.flatten(0, 1)[::9]), _columns(clips.flatten(0, 1)[::9])))
    codec.dec_out.weight[:, :3, 1, 1] = torch.eye(3)


def _fit_doubling(layer: torch.nn.Conv2d, x: torch.Tensor, frames: torch.Tensor) -> None:
    """Each of the two frames that a latent frame after the first stands for, from it alone."""
    columns, width = _columns(x[:, 1:].flatten(0, 1)), layer.weight.shape[0] // 2
    for place in (0, 1):
        wanted = _columns(frames[:, 1:][:, place::2].flatten(0, 1))
        layer.weight[place * width : place * width + wanted.shape[1], :, 0, 0] = _solve(columns, wanted).T


def _components(samples: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` strongest directions [count, width] of `samples` [n, width], their mean not taken off."""
    _, axes = torch.linalg.eigh((samples.T @ samples / len(samples)).double())
    return axes.flip(1)[:, :count].T.float()


def _solve(inputs: torch.Tensor, answers: torch.Tensor, most: int = 60000) -> torch.Tensor:
    rows = torch.randperm(len(inputs))[:most]
    inputs, answers = inputs[rows], answers[rows]
    gram = inputs.T @ inputs
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve((gram + ridge).double(), (inputs.T @ answers).double()).float()


def _columns(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1).flatten(0, -2)


def _blocks(x: torch.Tensor) -> torch.Tensor:
    """2x2 blocks of [batch, frames, channels, h, w] as rows of 4 * channels."""
    return F.unfold(x.flatten(0, 1), 2, stride=2).transpose(1, 2).flatten(0, 1)


def _neighbours(x: torch.Tensor, up: bool = True) -> torch.Tensor:
    """3x3 surroundings as rows, after nearest doubling where `up`."""
    x = F.interpolate(x, scale_factor=2, mode="nearest") if up else x
    return F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)


def _set_down(layer: torch.nn.Conv2d, directions: torch.Tensor) -> None:
    channels = directions.shape[1] // 4
    layer.weight[: len(directions), :channels, :2, :2] = directions.view(-1, channels, 2, 2)


def _set_merge(layer: torch.nn.Conv3d, averaged: int) -> None:
    for channel in range(layer.weight.shape[0]):
        source, sign = (channel, 1.0) if channel < averaged else (channel - averaged, -1.0)
        layer.weight[channel, source, 1], layer.weight[channel, source, 2] = 0.5 * sign, 0.5


def _set_conv(layer: torch.nn.Conv2d, solution: torch.Tensor) -> None:
    channels = solution.shape[0] // 9
    layer.weight[: solution.shape[1], :channels] = solution.T.reshape(-1, channels, 3, 3)
