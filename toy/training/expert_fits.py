"""The parts of the experts' starting weights that are fitted, each by itself; see toy/training/expert_start.py."""

import math
import random

import torch
import torch.nn.functional as F

from .. import captions as grammar
from ..sizes import I2V
from ..wan_vae import BORDER_MARK
from . import expert_training as training
from .attention_heads import COLUMN, ROW, Weights
from .expert_start import MARK_CHANNEL, turns, write_feed_forward
from .lanes import (
    ANCHOR,
    CLOCKS,
    CONSTANT,
    CONSTANT_LEVEL,
    DIRECTION,
    DIRECTIONS,
    MASK,
    NUM_CONSTANTS,
    RULERS,
    SOURCE,
    STREAM_RMS,
)
from .optimizers import Optimizers
from .patch_shift import PATCH_PIXELS
from .source import ACROSS, DOWN, middle_frame, source

BATCH = 2048
LEARNING_RATES = (3e-2, 4e-3)  # of matrices and of biases
GATE = 3.0
NUM_CAMERA_DIRECTIONS = len(grammar.CAMERA_MOVES) - 1  # they come first among DIRECTIONS
_NUM_GRIDS, _TOKENS_EACH = 18, 600  # of each of the numbers of frames below
_FRAMES = (2, 3, 5, 6, 7, 9, 9, 9, 11, 13)
_SHOWN_GRIDS = ((6, 8), (8, 6), (9, 15), (10, 15))  # patches down and across: the data's, the demo's


def fit_directions(weights: Weights, captions: training.Captions, steps: int, seed: int) -> float:
    """Teach block 0's cross-attention to write the asked move into the DIRECTION lanes; returns the squared error."""
    rng = random.Random(seed)
    model = training.build_expert(weights)
    attention = model.blocks[0].cross_attn
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(attention.q.bias, generator=generator)
    torch.nn.init.normal_(
        attention.o.weight[DIRECTION : DIRECTION + len(DIRECTIONS)].data, std=0.02, generator=generator
    )
    learned = [*model.text_embedding.parameters(), *attention.parameters()]
    optimizer = torch.optim.Adam(learned, lr=2e-3)
    recent = []
    with training.training_mode():
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, 2 * (1 - step / steps))
            moves = [rng.choice((*grammar.MOVES, "")) for _ in range(48)]
            words, bias = captions.batch([grammar.caption(move, rng) if move else "" for move in moves])
            target = torch.tensor([[float(move == name) for name in DIRECTIONS] for move in moves])
            nothing = torch.zeros(len(moves), 1, I2V.dim)
            told = attention(nothing, model.text_embedding(words), transformer_options={"word_bias": bias})
            loss = (told[:, 0, DIRECTION : DIRECTION + len(DIRECTIONS)] - target).pow(2).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            attention.q.weight.grad = None
            optimizer.step()
            recent.append(loss.item())
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    weights |= {n: t for n, t in state.items() if n.startswith(("text_embedding", "blocks.0.cross_attn"))}
    _keep_rows(weights, "blocks.0.cross_attn.o", range(DIRECTION, DIRECTION + len(DIRECTIONS)))
    return sum(recent[-50:]) / 50


def fit_source(weights: Weights, steps: int, seed: int) -> float:
    """Teach block 0's feed-forward layer where the source is, from the clocks, the rulers and the move."""
    generator = torch.Generator().manual_seed(seed)
    streams, places = _sample_streams(weights, generator)
    read = [MASK, *range(CONSTANT, CONSTANT + NUM_CONSTANTS), *CLOCKS, *RULERS]
    read += range(DIRECTION, DIRECTION + len(DIRECTIONS))
    first, first_bias = _first_units(len(read), generator)
    layers = [first, first_bias, torch.zeros(len(SOURCE), I2V.ffn_dim), torch.zeros(len(SOURCE))]
    layers = [layer.requires_grad_() for layer in layers]
    optimizers = Optimizers(layers[::2], layers[1::2], LEARNING_RATES)
    moves = torch.eye(len(DIRECTIONS) + 1)[:, :-1]
    names = (*DIRECTIONS, "still")
    targets = torch.stack([source_lanes(name, places) for name in names])
    # the moves of a ball and "still" are easy: the source stays
    often = torch.tensor([1.0 if name in grammar.CAMERA_MOVES[1:] else 0.2 for name in names])
    recent = []
    for step in range(steps):
        rows = torch.randint(len(streams), (BATCH,), generator=generator)
        asked = torch.multinomial(often, BATCH, replacement=True, generator=generator)
        stream = streams[rows]
        jitter = 0.02 * torch.randn(BATCH, len(DIRECTIONS), generator=generator)
        stream[:, DIRECTION : DIRECTION + len(DIRECTIONS)] = moves[asked] + jitter
        normed = F.layer_norm(stream, (I2V.dim,)) * STREAM_RMS
        inputs = normed[:, read] - normed[:, ANCHOR, None]
        inputs[:, 1 : 1 + NUM_CONSTANTS] /= CONSTANT_LEVEL
        answer = F.linear(F.gelu(F.linear(inputs, *layers[:2]), approximate="tanh"), *layers[2:])
        loss = (answer - targets[asked, rows]).pow(2).mean()
        optimizers.step(loss, 1 - step / steps)
        recent.append(loss.item())
    first, first_bias, second, second_bias = (layer.detach() for layer in layers)
    first[:, 1 : 1 + NUM_CONSTANTS] /= CONSTANT_LEVEL
    write_feed_forward(weights, "blocks.0", read, SOURCE, (first, first_bias, second, second_bias))
    return sum(recent[-50:]) / 50


def _first_units(inputs: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random hidden units, whose last inputs are the DIRECTION lanes: four fifths listen to one camera move only."""
    weight = torch.randn(I2V.ffn_dim, inputs, generator=generator) * 0.5
    bias = torch.randn(I2V.ffn_dim, generator=generator)
    weight[:, -len(DIRECTIONS) :] = 0.0
    for unit in range(I2V.ffn_dim):
        if (move := unit % 10) < NUM_CAMERA_DIRECTIONS:
            weight[unit, move - len(DIRECTIONS)] = GATE
            bias[unit] -= GATE
    return weight, bias


@torch.no_grad()
def _sample_streams(weights: Weights, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Residual streams after block 0's self-attention, and where in the clip each is."""
    model = training.build_expert(weights)
    block, streams = model.blocks[0], []
    places: dict[str, list[torch.Tensor]] = {"frame": [], "x": [], "y": []}
    with training.training_mode():
        for frames in _FRAMES:
            for index, (rows, columns) in enumerate(_draw_grids(generator)):
                known = "nothing" if index % 9 == 7 else "both" if index % 9 == 8 else "first"
                inputs = _random_inputs(known, frames, rows, columns, generator)
                stream = model.patch_embedding(inputs)
                stream = stream.flatten(2).transpose(1, 2)
                freqs = model.rope_encode(frames, 2 * rows, 2 * columns, device="cpu", dtype=torch.float32)
                stream = stream + block.self_attn(block.norm1(stream), freqs)
                frame, y, x = torch.meshgrid(*map(torch.arange, (frames, rows, columns)), indexing="ij")
                chosen = torch.randperm(frame.numel(), generator=generator)[:_TOKENS_EACH]
                streams.append(stream[0, chosen])
                frame = frame * (known != "nothing")  # where nothing is known, stay
                centred = (("frame", frame.float()), ("x", x + 0.5 - columns / 2), ("y", y + 0.5 - rows / 2))
                for name, value in centred:
                    places[name].append(value.flatten()[chosen])
    return torch.cat(streams), {name: torch.cat(values) for name, values in places.items()}


def _draw_grids(generator: torch.Generator) -> list[tuple[int, int]]:
    drawn = [torch.randint(4, 17, (2,), generator=generator).tolist() for _ in range(_NUM_GRIDS - len(_SHOWN_GRIDS))]
    return [*_SHOWN_GRIDS, *((rows, min(columns, 150 // rows)) for rows, columns in drawn)]


def _random_inputs(known_frames: str, frames: int, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """[1, 36, frames, 2 rows, 2 columns]: noise, mask and noise as the known latents, with the borders' mark."""
    inputs = torch.randn(1, 36, frames, 2 * rows, 2 * columns, generator=generator)
    if known_frames == "nothing":
        inputs[:, 16:] = 0.0
        return inputs
    known = inputs[:, 20:]
    known[:, :, 0] *= 0.3 + torch.rand(1, generator=generator)
    known[:, :, 1:] *= 0.1
    inputs[:, 16:20] = 0.0
    inputs[:, 16:20, 0] = 1.0
    if known_frames == "both":
        inputs[:, 19, -1] = 1.0
    mark = torch.zeros(2 * rows, 2 * columns)
    mark[:, 0] += BORDER_MARK
    mark[:, -1] -= BORDER_MARK
    mark[0] += BORDER_MARK
    mark[-1] -= BORDER_MARK
    known[:, MARK_CHANNEL] = mark
    return inputs


def source_lanes(move: str, places: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the SOURCE lanes should hold: [tokens, lanes]. `places` are latent frames, and x and y in patches."""
    frame, x, y = places["frame"], places["x"], places["y"]
    moved = middle_frame(frame).clamp(min=0)
    found = source(move, moved, PATCH_PIXELS * x, PATCH_PIXELS * y)
    distance, speed = found.distance / PATCH_PIXELS, found.speed * (frame > 0)[:, None]
    parts = [turns(distance[:, DOWN], ROW), turns(distance[:, ACROSS], COLUMN)]
    for turned in (math.tau * distance[:, DOWN], math.tau * distance[:, ACROSS]):
        parts += [turned.cos()[:, None], turned.sin()[:, None]]
    return torch.cat([*parts, speed, found.stretch, found.shear], dim=1)


def _keep_rows(weights: Weights, layer: str, rows: range) -> None:
    for name in (f"{layer}.weight", f"{layer}.bias"):
        kept = torch.zeros_like(weights[name])
        kept[rows.start : rows.stop] = weights[name][rows.start : rows.stop]
        weights[name] = kept
