"""What an end's or a keyframe's latents say about its picture, by least squares.

ComfyUI encodes such a picture behind three grey frames, as one latent. Block 0 makes of it the latent of a clip that
shows the picture all the time, and that of a first frame (expert_start.write_keyframes).
"""

import random
from typing import NamedTuple

import torch

from ..sizes import PICTURE_CHANNELS
from ..wan_vae import LatentSpace
from . import data
from .patch_shift import patches

HEIGHT, WIDTH, NUM_PICTURES = 96, 128, 400
GREY_SHARE = 0.75  # of the latent's four frames; the experts subtract it


class PatchMap(NamedTuple):
    """`matrix` [PATCH, PATCH] @ patch + `offset` [PATCH], and the share of the variance that it misses."""

    matrix: torch.Tensor
    offset: torch.Tensor
    missed: float


@torch.no_grad()
def fit_keyframes(space: LatentSpace, grey: torch.Tensor, seed: int) -> tuple[PatchMap, PatchMap]:
    """From an end's patch less its grey to a still clip's, and to a first frame's.

    `grey` [16] is the latent of an unknown frame.
    """
    rng = random.Random(seed)
    ends: list[torch.Tensor] = []
    stills: list[torch.Tensor] = []
    firsts: list[torch.Tensor] = []
    for _ in range(NUM_PICTURES):
        picture = data.make_picture(rng, HEIGHT, WIDTH) * 2 - 1
        still = picture.expand(9, -1, -1, -1)
        end = torch.zeros_like(still)
        end[-1] = picture
        for made, frames in ((ends, end), (stills, still), (firsts, still[:1])):
            made.append(patches(space.encode(frames)[None, :PICTURE_CHANNELS, -1]).flatten(0, 2))
    told = torch.cat(ends) - GREY_SHARE * grey[:PICTURE_CHANNELS].repeat(4)
    return _least_squares(told, torch.cat(stills)), _least_squares(told, torch.cat(firsts))


def _least_squares(told: torch.Tensor, wanted: torch.Tensor) -> PatchMap:
    told = torch.cat([told, torch.ones(len(told), 1)], dim=1)
    solution = torch.linalg.lstsq(told.double(), wanted.double()).solution.float()
    missed = (told @ solution - wanted).pow(2).mean() / wanted.var(dim=0).mean()
    return PatchMap(solution[:-1].T.contiguous(), solution[-1], missed.item())
