"""Where in the known frame a camera's move finds what it shows: the geometry that the experts' first blocks learn.

The experts look across first, then down (expert_start.py), so that a rotation is sheared twice: what is `across`
holds for a place in the source's row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch

from ...nodes.rules.frames.frame_count import FRAMES_PER_LATENT
from . import data

DOWN, ACROSS = 0, 1
Time = TypeVar("Time", float, torch.Tensor)


@dataclass(frozen=True)
class Source:
    """All [..., 2], down first, then across.

    `distance` in pixels, `speed` in pixels a frame; `stretch` and `shear` are by how much the distance grows for each
    pixel along its own direction and along the other one.
    """

    distance: torch.Tensor
    speed: torch.Tensor
    stretch: torch.Tensor
    shear: torch.Tensor


def middle_frame(latent_frame: Time) -> Time:
    """How many frames after the known one the middle of a latent frame's four is; for latent frames from 1 on."""
    return FRAMES_PER_LATENT * latent_frame - 1.5


def way(latent_frame: torch.Tensor, known: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """How far along its move the camera is in latent frames, and how fast it goes: in frames, and in frames a frame.

    `known` are the latent frames that are known, the first of them 0; each but 0 shows its picture for all its four
    frames. With no other the camera goes on at speed 1. Between two it goes out at that speed, comes back and waits for
    a latent, so that a clip that ends with its first picture can be shown in a loop. Going both ways in whole latents,
    it meets the same parts of a patch as in clips that go on; where their number is odd it turns inside one.
    """
    frames = FRAMES_PER_LATENT * latent_frame[..., None] - torch.arange(FRAMES_PER_LATENT).flip(0)
    moved = (frames - FRAMES_PER_LATENT * known[-1]).clamp(min=0.0)
    for begin, end in pairwise(FRAMES_PER_LATENT * latent for latent in known):
        out, back = frames - begin, end - 2 * FRAMES_PER_LATENT - frames
        moved = torch.where((frames > begin) & (frames <= end), torch.minimum(out, back).clamp(min=0), moved)
    return moved.mean(dim=-1), (moved[..., -1] - moved[..., 0]) / (FRAMES_PER_LATENT - 1)


def source(move: str, moved: torch.Tensor, x: torch.Tensor, y: torch.Tensor, pace: float = 1.0) -> Source:
    """What (x, y), in pixels from the middle, shows `moved` frames after the known one; all of one shape.

    `pace` is how many times as fast as in the family's data the camera moves.
    """
    zero = torch.zeros_like(moved)
    distance = speed = stretch = shear = (zero, zero)
    kind, _, heading = move.partition(" ")
    if kind == "pan":
        across, down = data.WAYS[heading]
        speed = tuple(pace * data.PAN_PIXELS_PER_FRAME * step + zero for step in (down, across))
        distance = tuple(rate * moved for rate in speed)
    elif kind == "zoom":
        rate = pace * math.log(data.ZOOM_PER_FRAME) * (1 if heading == "out" else -1)
        scale = (rate * moved).exp()
        distance = ((scale - 1) * y, (scale - 1) * x)
        speed = (rate * scale * y, rate * scale * x)
        stretch = (scale - 1, scale - 1)
    elif kind == "rotate":
        rate = pace * math.radians(data.DEGREES_PER_FRAME) * (1 if heading == "right" else -1)
        cos, sin = (rate * moved).cos(), (rate * moved).sin()
        distance = (sin * x + (cos - 1) * y, (1 / cos - 1) * x - sin / cos * y)
        speed = (rate * (cos * x - sin * y), -rate * y)
        stretch = (cos - 1, 1 / cos - 1)
        shear = (sin, -sin / cos)
    return Source(*(torch.stack(parts, dim=-1) for parts in (distance, speed, stretch, shear)))
