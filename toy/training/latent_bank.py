"""Clips as latents in the transformers' space, made once and kept in shards on disk, for training the experts.

A shard is a dict: `latents` and, with the picture's unknown frames grey as ComfyUI encodes them, `first` (first frame
known) and `both` (first and last known), each float16 [clips, 16, latent frames, height/8, width/8]; `captions`, four
sentences a clip; `moves`.
"""

import random
from pathlib import Path

import torch

from .. import captions
from ..wan_vae import LatentSpace
from . import data
from .saved_training import save_state

CLIPS_PER_SHARD = 60
MOVE_WEIGHTS = {
    "still": 2,
    "pan left": 4,
    "pan right": 4,
    "pan up": 4,
    "pan down": 4,
    "zoom in": 4,
    "zoom out": 4,
    "rotate left": 4,
    "rotate right": 4,
} | dict.fromkeys(captions.BALL_MOVES, 1)


@torch.no_grad()
def make_shard(space: LatentSpace, seed: int, num_frames: int, height: int, width: int) -> dict:
    """CLIPS_PER_SHARD clips; pictures are filmed three times each, under different moves."""
    rng = random.Random(seed)
    shard: dict[str, list] = {"latents": [], "first": [], "both": [], "captions": [], "moves": []}
    margin = data.margin_for(num_frames, height, width)
    while len(shard["moves"]) < CLIPS_PER_SHARD:
        picture = data.make_picture(rng, height + 2 * margin, width + 2 * margin, held_out=seed >= data.HELD_OUT_SEED)
        for move in _distinct_moves(rng, 3):
            frames = data.film(picture, move, num_frames, margin, rng) * 2 - 1
            known = torch.zeros_like(frames)
            known[0] = frames[0]
            first = space.encode(known[:9])
            known[-1] = frames[-1]
            shard["latents"].append(space.encode(frames).half())
            shard["first"].append(
                torch.cat([first, first[:, -1:].expand(-1, num_frames // 4 - 2, -1, -1)], dim=1).half()
            )
            shard["both"].append(space.encode(known).half())
            shard["captions"].append([captions.caption(move, rng) for _ in range(4)])
            shard["moves"].append(move)
    for name in ("latents", "first", "both"):
        shard[name] = torch.stack(shard[name])
    return shard


def make_shards(space: LatentSpace, folder: Path, count: int, first_seed: int, clip: tuple[int, int, int]) -> None:
    """Write shards of `clip`'s frames, height and width that are not there yet; half of them are portrait."""
    num_frames, height, width = clip
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{first_seed + index:06d}.pt"
        if path.exists():
            continue
        size = (height, width) if index % 2 == 0 else (width, height)
        save_state(path, make_shard(space, first_seed + index, num_frames, *size))


def _distinct_moves(rng: random.Random, count: int) -> list[str]:
    moves: list[str] = []
    while len(moves) < count:
        move = rng.choices(list(MOVE_WEIGHTS), MOVE_WEIGHTS.values())[0]
        if move not in moves:
            moves.append(move)
    return moves
