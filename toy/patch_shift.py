"""The two small networks that shift a picture by part of a patch, first along rows of patches, then down columns.

They become the feed-forward layers of the experts' blocks 1 and 2 (toy/expert_start.py) and are trained alone here,
because alone a step costs a thousandth. Each sees two neighbouring patches as its block's attention heads bring them,
softly chosen around the source, and is told the source's distance in patches as a turn (cos and sin of 2 pi distance)
and the speed in pixels a frame, which decides how four frames blur into one latent.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from . import data
from .attention_heads import COLUMN, ROW, frequency
from .expert_training import save_state
from .sizes import I2V, PICTURE_CHANNELS
from .wan_vae import LatentSpace

PATCH_PIXELS = 16
SHARP, WIDE = 120.0, 40.0  # scores of the heads that bring the patches, at a head's two fastest frequencies
NEIGHBOURS = (-0.25, 0.75)  # patches: where around the source the two heads look; pans stay clear of the change-over
HEIGHT, WIDTH, MARGIN = 96, 128, 44
CLIP_FRAMES, MIDDLE = 9, 6.5  # the last of three latents stands for frames 5 to 8
MAX_SPEED = 1.2
NUM_SHARDS, SHARD_SIZE, FIRST_SEED = 40, 200, 20_000
BATCH, LEARNING_RATE = 48, 2e-3
DOUBT = 0.4  # noise on what block 1 hands to block 2, in training
SCALE_JITTER, TOLD_JITTER, PLACE_JITTER = 0.05, 0.1, 0.03  # block 0 is not exact, and layer norms scale by content
TURN_LENGTH = (0.7, 1.05)  # of the told (cos, sin): a regression that is in doubt answers with less than 1
PATCH = 4 * PICTURE_CHANNELS


@dataclass(frozen=True)
class Shifts:
    """`known`, `across` and `moved` [clips, rows, columns, PATCH]: the picture, moved along rows only, and moved.

    `source` [clips, 2]: how far away the source is down and across, in patches. `speed` [clips, 2]: in pixels a frame.
    """

    known: torch.Tensor
    across: torch.Tensor
    moved: torch.Tensor
    source: torch.Tensor
    speed: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> "Shifts":
        return Shifts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class ShiftNetwork(nn.Module):
    """Two patches, turn, speed and the known frame's mark to the change of the first patch.

    What a patch becomes is linear in it, but another map for every part of a patch: so to begin with, each hidden unit
    is open around one of BINS turns only.
    """

    INPUTS = 2 * PATCH + 4
    BINS, GATE = 16, 60.0

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out_of = nn.Linear(self.INPUTS, I2V.ffn_dim), nn.Linear(I2V.ffn_dim, PATCH)
        angle = math.tau * (torch.arange(I2V.ffn_dim) % self.BINS) / self.BINS
        with torch.no_grad():
            nn.init.normal_(self.into.weight, std=PATCH**-0.5)
            self.into.weight[:, 2 * PATCH] = self.GATE * angle.cos()
            self.into.weight[:, 2 * PATCH + 1] = self.GATE * angle.sin()
            self.into.bias.fill_(-self.GATE * math.cos(0.75 * math.tau / self.BINS))
            nn.init.normal_(self.out_of.weight, std=0.01)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out_of(F.gelu(self.into(inputs), approximate="tanh"))


def patches(latents: torch.Tensor) -> torch.Tensor:
    """[batch, channels, h, w] to [batch, h/2, w/2, 4 * channels]: a patch's four latents after one another."""
    split = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # batch, channel, row, 2, column, 2
    return split.permute(0, 2, 4, 3, 5, 1).flatten(3)


@torch.no_grad()
def make_shifts(space: LatentSpace, seed: int, count: int) -> Shifts:
    """`count` training pictures and how they look when moved."""
    rng = random.Random(seed)
    made: dict[str, list] = {"known": [], "across": [], "moved": [], "source": [], "speed": []}
    for _ in range(count):
        picture = data.make_picture(rng, HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
        speed, source = _draw_motion(rng)
        for name, (down, right) in (("across", (0.0, 1.0)), ("moved", (1.0, 1.0))):
            frames = [
                _crop(
                    picture,
                    down * (source[0] + speed[0] * (frame - MIDDLE)),
                    right * (source[1] + speed[1] * (frame - MIDDLE)),
                )
                for frame in range(CLIP_FRAMES)
            ]
            made[name].append(space.encode(torch.stack(frames) * 2 - 1)[:PICTURE_CHANNELS, -1])
        made["known"].append(space.encode(_crop(picture, 0.0, 0.0)[None] * 2 - 1)[:PICTURE_CHANNELS, 0])
        made["source"].append(torch.tensor(source) / PATCH_PIXELS)
        made["speed"].append(torch.tensor(speed))
    pictures = (patches(torch.stack(made[name])) for name in ("known", "across", "moved"))
    return Shifts(*pictures, torch.stack(made["source"]), torch.stack(made["speed"]))


def train_shift(shifts: Shifts, part: int, steps: int, seed: int) -> ShiftNetwork:
    """The network for `part` COLUMN, or for ROW, which starts from the picture that was moved across."""
    torch.manual_seed(seed)
    network = ShiftNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * (1 - step / steps)
        batch = shifts[torch.randint(len(shifts.known), (BATCH,))]
        start, wanted = (batch.known, batch.across) if part == COLUMN else (batch.across, batch.moved)
        if part == ROW:
            start = start + DOUBT * torch.rand(1) * torch.randn_like(start)
        inputs = network_inputs(start, batch, part, PLACE_JITTER)
        known = inputs[:2].clone()
        known[..., PATCH : 2 * PATCH] *= 0.0 if part == COLUMN else 1.0
        known[..., 2 * PATCH :] = torch.tensor([1.0, 0.0, 0.0, 1.0])
        told = torch.cat([inputs, known])
        told = told * (1 + SCALE_JITTER * (2 * torch.rand(len(told), 1, 1, 1) - 1))
        told[..., 2 * PATCH : 2 * PATCH + 2] *= torch.empty(len(told), 1, 1, 1).uniform_(*TURN_LENGTH)
        told[..., 2 * PATCH :] += TOLD_JITTER * torch.randn_like(told[..., 2 * PATCH :])
        answers = network(told)
        loss = (inputs[..., :PATCH] + answers[:BATCH] - wanted).pow(2).mean() + 0.05 * answers[BATCH:].pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 500 == 0:
            print(f"shift {part} step {step + 1} loss {sum(losses[-200:]) / 200:.4f}", flush=True)
    return network


def network_inputs(start: torch.Tensor, shifts: Shifts, part: int, jitter: float = 0.0) -> torch.Tensor:
    """[clips, rows, columns, ShiftNetwork.INPUTS]: as the block's heads and the lanes of the residual stream say it."""
    axis = (ROW, COLUMN).index(part)
    source, speed = shifts.source[:, axis], shifts.speed[:, axis]
    place = source + jitter * torch.randn_like(source)
    near, far = (_bring(start, place + neighbour, part) for neighbour in NEIGHBOURS)
    told = torch.stack([(math.tau * source).cos(), (math.tau * source).sin(), speed, torch.zeros_like(speed)], dim=1)
    return torch.cat([near, far, told[:, None, None].expand(*near.shape[:3], -1)], dim=-1)


def _bring(start: torch.Tensor, distance: torch.Tensor, part: int) -> torch.Tensor:
    """What a head brings that looks `distance` [clips] patches away along `part`; the border's patch beyond it."""
    axis = 1 if part == ROW else 2
    place = torch.arange(start.shape[axis], dtype=torch.float32)
    away = place[None, None] - place[None, :, None] - distance[:, None, None]
    scores = sum(score * (frequency(part, pair) * away).cos() for pair, score in enumerate((SHARP, WIDE)))
    shares = scores.softmax(dim=-1)
    return torch.einsum("nrs,nsck->nrck" if part == ROW else "ncs,nrsk->nrck", shares, start)


def _draw_motion(rng: random.Random) -> tuple[tuple[float, float], tuple[float, float]]:
    """(speed down and right, distance of the source down and right in pixels at a latent frame of a clip of 33)."""
    drawn, time = rng.random(), 4 * rng.randint(1, 8) - 1.5
    if drawn < 0.1:
        return (0.0, 0.0), (0.0, 0.0)
    if drawn < 0.4:
        speed = rng.choice(((0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)))
        return speed, (speed[0] * time, speed[1] * time)
    speed = (rng.uniform(-MAX_SPEED, MAX_SPEED), rng.uniform(-MAX_SPEED, MAX_SPEED))
    return speed, (speed[0] * time * rng.uniform(0.9, 1.1), speed[1] * time * rng.uniform(0.9, 1.1))


def _crop(picture: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """The middle of the picture, seen from `down` and `right` pixels away, between pixels by linear interpolation."""
    top, left = math.floor(down), math.floor(right)
    share_y, share_x = down - top, right - left

    def at(extra_y: int, extra_x: int) -> torch.Tensor:
        y, x = MARGIN + top + extra_y, MARGIN + left + extra_x
        return picture[:, y : y + HEIGHT, x : x + WIDTH]

    upper = at(0, 0) * (1 - share_x) + at(0, 1) * share_x if share_x else at(0, 0)
    if not share_y:
        return upper
    lower = at(1, 0) * (1 - share_x) + at(1, 1) * share_x if share_x else at(1, 0)
    return upper * (1 - share_y) + lower * share_y


def all_shifts(space: LatentSpace, folder: Path) -> Shifts:
    """NUM_SHARDS shards of pictures, kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for index in range(NUM_SHARDS):
        path = folder / f"{index:03d}.pt"
        if not path.exists():
            save_state(path, vars(make_shifts(space, FIRST_SEED + index, SHARD_SIZE)))
        shards.append(Shifts(**torch.load(path)))
    return Shifts(*(torch.cat([getattr(s, name) for s in shards]) for name in Shifts.__dataclass_fields__))
