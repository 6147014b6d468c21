"""The two small networks that shift a picture by part of a patch, first along rows of patches, then down columns.

They become the feed-forward layers of the experts' blocks 1 and 2 (expert_start.py) and are trained alone here,
because alone a step costs a thousandth. Each sees two neighbouring patches as its block's attention heads bring them,
softly chosen around the source, and is told the source's distance in patches as a turn (cos and sin of 2 pi distance),
the speed in pixels a frame, which decides how four frames blur into one latent, and by how much the distance grows
across and down, which is what makes a zoom or a rotation of a shift.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from .. import captions
from ..sizes import I2V, PICTURE_CHANNELS
from ..wan_vae import LatentSpace
from . import data
from .attention_heads import COLUMN, ROW, frequency
from .optimizers import Optimizers
from .saved_training import save_state
from .source import ACROSS, DOWN, Source, middle_frame, source

PATCH_PIXELS = 16
SHARP, WIDE = 120.0, 40.0  # scores of the heads that bring the patches, at a head's two fastest frequencies
NEIGHBOURS = (-0.25, 0.75)  # patches: where around the source the two heads look; pans stay clear of the change-over
HEIGHT, WIDTH, MARGIN = 96, 128, 48
FURTHEST = (44, 74)  # pixels: how far from the camera's middle the picture's middle may be, down and across
CLIP_FRAMES, MIDDLE = 9, middle_frame(2)  # the last of three latents stands for frames 5 to 8
NUM_LATENTS = 9  # of the clips that the experts are for: 33 frames
PACE = (0.85, 1.15)
NUM_SHARDS, SHARD_SIZE, FIRST_SEED = 80, 200, 20_000
BATCH, LEARNING_RATES = 48, (8e-3, 1e-3)  # of matrices and of biases
DOUBT = 0.3  # noise on what block 1 hands to block 2, in training
SCALE_JITTER, TURN_JITTER, GROWTH_JITTER, PLACE_JITTER = 0.05, 0.08, 0.02, 0.02  # block 0 is not exact
TURN_LENGTH = (0.8, 1.05)  # of the told (cos, sin): a regression that is in doubt answers with less than 1
PATCH = 4 * PICTURE_CHANNELS
_MOVES = [move for move in captions.CAMERA_MOVES for _ in range(3 if move.startswith(("zoom", "rotate")) else 1)]


@dataclass(frozen=True)
class Shifts:
    """`known`, `across` and `moved` [clips, rows, columns, PATCH]: the picture, moved along rows only, and moved.

    `source` [clips, rows, columns, 2]: how far away each patch's source is down and across, in patches. `told` [clips,
    rows, columns, 2, 3]: its speed in pixels a frame, stretch and shear (toy/training/source.py).
    """

    known: torch.Tensor
    across: torch.Tensor
    moved: torch.Tensor
    source: torch.Tensor
    told: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> "Shifts":
        return Shifts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def inside(self, part: int) -> torch.Tensor:
        """[clips, rows, columns]: whether the source along `part` lies in the picture; elsewhere nobody can know."""
        axis = (ROW, COLUMN).index(part)
        count = self.source.shape[1 + axis]
        own = torch.arange(count, dtype=torch.float32).view((-1, 1) if part == ROW else (1, -1))
        place = own + self.source[..., axis]
        return (place > -0.1) & (place < count - 0.9)


class ShiftNetwork(nn.Module):
    """Two patches, turn, speed, stretch, shear and the known frame's mark to the change of the first patch.

    What a patch becomes is linear in it, but another map for every part of a patch: so to begin with, each hidden unit
    is open around one of BINS turns only.
    """

    INPUTS = 2 * PATCH + 6
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
    made: dict[str, list[torch.Tensor]] = {name: [] for name in Shifts.__dataclass_fields__}
    for _ in range(count):
        picture = data.make_picture(rng, HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
        camera = Camera.drawn(rng)
        for name in ("across", "moved"):
            frames = [camera.see(picture, frame - MIDDLE, name) for frame in range(CLIP_FRAMES)]
            made[name].append(patches(space.encode(torch.stack(frames) * 2 - 1)[None, :PICTURE_CHANNELS, -1]))
        known = picture[None, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        made["known"].append(patches(space.encode(known * 2 - 1)[None, :PICTURE_CHANNELS, 0]))
        found = camera.patch_sources()
        made["source"].append(found.distance[None] / PATCH_PIXELS)
        made["told"].append(torch.stack([found.speed, found.stretch, found.shear], dim=-1)[None])
    return Shifts(*(torch.cat(made[name]).half() for name in Shifts.__dataclass_fields__))


@dataclass(frozen=True)
class Camera:
    """One of the data's moves some time after its start; (x, y) is where the picture's middle lies in its view."""

    move: str
    moved: float
    pace: float
    x: float
    y: float

    @classmethod
    def drawn(cls, rng: random.Random) -> "Camera":
        move = rng.choice(_MOVES)
        moved = middle_frame(rng.randint(1, NUM_LATENTS - 1))
        pace = 1.0 if move.startswith("pan") else rng.uniform(*PACE)
        return cls(move, moved, pace, rng.uniform(-1, 1) * FURTHEST[1], rng.uniform(-1, 1) * FURTHEST[0])

    def source(self, later: float, x: torch.Tensor, y: torch.Tensor) -> Source:
        """Of places in pixels from the picture's middle."""
        moved = torch.full_like(x, self.moved + later)
        return source(self.move, moved, x + self.x, y + self.y, self.pace)

    def patch_sources(self) -> Source:
        """[rows, columns, 2]."""
        return self.source(0.0, *_places(PATCH_PIXELS))

    def see(self, picture: torch.Tensor, later: float, stage: str) -> torch.Tensor:
        """[3, HEIGHT, WIDTH] of a picture with MARGIN around it; at stage "across", moved along rows only."""
        x, y = _places(1)
        if stage == "moved":
            y = y + self.source(later, x, y).distance[..., DOWN]
        x = x + self.source(later, x, y).distance[..., ACROSS]
        grid = torch.stack([2 * x / picture.shape[2], 2 * y / picture.shape[1]], dim=-1)
        return F.grid_sample(picture[None], grid[None], padding_mode="reflection", align_corners=False)[0]


def _places(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of the middles of all squares of `side`, in pixels from the picture's middle: [rows, columns] each."""
    across, down = ((torch.arange(length // side) + 0.5) * side - length / 2 for length in (WIDTH, HEIGHT))
    y, x = torch.meshgrid(down, across, indexing="ij")
    return x, y


def train_shift(shifts: Shifts, part: int, steps: int, seed: int) -> ShiftNetwork:
    """The network for `part` COLUMN, or for ROW, which starts from the picture that was moved across."""
    torch.manual_seed(seed)
    network = ShiftNetwork()
    biases = [network.into.bias, network.out_of.bias]
    optimizers = Optimizers([network.into.weight, network.out_of.weight], biases, LEARNING_RATES)
    losses = []
    for step in range(steps):
        loss = shift_loss(network, shifts[torch.randint(len(shifts.known), (BATCH,))], part)
        optimizers.step(loss, min(1.0, (step + 1) / 50) * (1 - step / steps))
        losses.append(loss.item())
        if (step + 1) % 500 == 0:
            print(f"shift {part} step {step + 1} loss {sum(losses[-200:]) / 200:.4f}", flush=True)
    return network


def shift_loss(network: ShiftNetwork, batch: Shifts, part: int) -> torch.Tensor:
    """Squared error where the source is inside, told with block 0's errors; and a known frame must stay as it is."""
    start, wanted = (batch.known, batch.across) if part == COLUMN else (batch.across, batch.moved)
    if part == ROW:
        start = start + DOUBT * torch.rand(1) * torch.randn_like(start)
    inputs = network_inputs(start, batch, part, PLACE_JITTER)
    known = inputs[:2].clone()
    known[..., PATCH : 2 * PATCH] *= 0.0 if part == COLUMN else 1.0
    known[..., 2 * PATCH :] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    told = torch.cat([inputs, known])
    told = told * (1 + SCALE_JITTER * (2 * torch.rand(len(told), 1, 1, 1) - 1))
    told[..., 2 * PATCH : 2 * PATCH + 2] *= torch.empty(len(told), 1, 1, 1).uniform_(*TURN_LENGTH)
    jitter = torch.tensor([TURN_JITTER] * 3 + [GROWTH_JITTER] * 3)
    told[..., 2 * PATCH :] += jitter * torch.randn_like(told[..., 2 * PATCH :])
    with torch.autocast("cpu", torch.bfloat16):
        answers = network(told).float()
    missed = (inputs[..., :PATCH] + answers[: len(inputs)] - wanted).pow(2).mean(dim=-1)
    return missed[batch.inside(part)].mean() + 0.05 * answers[len(inputs) :].pow(2).mean()


def network_inputs(start: torch.Tensor, shifts: Shifts, part: int, jitter: float = 0.0) -> torch.Tensor:
    """[clips, rows, columns, ShiftNetwork.INPUTS]: as the block's heads and the lanes of the residual stream say it."""
    axis = (ROW, COLUMN).index(part)
    distance, told = shifts.source[..., axis], shifts.told[..., axis, :]
    place = distance + jitter * torch.randn(len(distance), 1, 1)
    near, far = (_bring(start, place + neighbour, part) for neighbour in NEIGHBOURS)
    turn, mark = math.tau * distance, torch.zeros_like(distance)
    return torch.cat([near, far, *(value[..., None] for value in (turn.cos(), turn.sin())), told, mark[..., None]], -1)


def _bring(start: torch.Tensor, distance: torch.Tensor, part: int) -> torch.Tensor:
    """What a head brings that looks `distance` [clips, rows, columns] patches away along `part`, or at the border."""
    axis = 1 if part == ROW else 2
    place = torch.arange(start.shape[axis], dtype=torch.float32)
    own = place[:, None] if part == ROW else place
    away = place - own[..., None] - distance[..., None]
    scores = sum(score * (frequency(part, pair) * away).cos() for pair, score in enumerate((SHARP, WIDE)))
    shares = scores.softmax(dim=-1)
    return torch.einsum("nrcs,nsck->nrck" if part == ROW else "nrcs,nrsk->nrck", shares, start)


def all_shifts(space: LatentSpace, folder: Path) -> Shifts:
    """NUM_SHARDS shards of pictures, kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for index in range(NUM_SHARDS):
        path = folder / f"{index:03d}.pt"
        if not path.exists():
            save_state(path, vars(make_shifts(space, FIRST_SEED + index, SHARD_SIZE)))
        shards.append(Shifts(**torch.load(path)))
    return Shifts(*(torch.cat([getattr(s, name) for s in shards]).float() for name in Shifts.__dataclass_fields__))
