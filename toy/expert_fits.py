"""The parts of the experts' starting weights that are fitted, each by itself; see toy/expert_start.py."""

import math
import random

import torch
import torch.nn.functional as F

from . import captions as grammar
from . import data
from . import expert_training as training
from .attention_heads import COLUMN, ROW, Weights
from .expert_start import MARK_CHANNEL, turns
from .lanes import (
    CLOCKS,
    CONSTANT,
    CONSTANT_LEVEL,
    DIRECTION,
    DIRECTIONS,
    MASK,
    NUM_CONSTANTS,
    RULERS,
    SPEED,
    STREAM_RMS,
    TURN,
)
from .patch_shift import PATCH_PIXELS
from .sizes import I2V
from .wan_vae import BORDER_MARK

BATCH = 6144
_GRIDS = ((6, 8), (8, 6), (5, 6), (6, 6), (10, 15), (15, 10), (8, 12))


def fit_directions(weights: Weights, captions: training.Captions, steps: int, seed: int) -> float:
    """Teach block 0's cross-attention to write the asked move into the DIRECTION lanes; returns the squared error."""
    rng = random.Random(seed)
    model = training.build_expert(weights)
    attention = model.blocks[0].cross_attn
    torch.nn.init.normal_(attention.q.bias, generator=torch.Generator().manual_seed(seed))
    torch.nn.init.normal_(attention.o.weight[DIRECTION : DIRECTION + len(DIRECTIONS)].data, std=0.02)
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
    write = range(TURN, SPEED + 2)
    hidden = I2V.ffn_dim
    first = torch.randn(hidden, len(read), generator=generator) * 0.5
    layers = [first, torch.randn(hidden, generator=generator), torch.zeros(len(write), hidden), torch.zeros(len(write))]
    layers = [layer.requires_grad_() for layer in layers]
    optimizer = torch.optim.Adam(layers, lr=4e-3)
    moves = torch.eye(len(DIRECTIONS) + 1)[:, :-1]
    names = (*DIRECTIONS, "still")
    targets = torch.stack([source_lanes(name, places) for name in names])
    # the moves of a ball and "still" are easy: the source stays
    often = torch.tensor([1.0 if name in grammar.CAMERA_MOVES[1:] else 0.2 for name in names])
    recent = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
        rows = torch.randint(len(streams), (BATCH,), generator=generator)
        asked = torch.multinomial(often, BATCH, replacement=True, generator=generator)
        stream = streams[rows]
        jitter = 0.02 * torch.randn(BATCH, len(DIRECTIONS), generator=generator)
        stream[:, DIRECTION : DIRECTION + len(DIRECTIONS)] = moves[asked] + jitter
        inputs = F.layer_norm(stream, (I2V.dim,))[:, read] * STREAM_RMS
        inputs[:, 1 : 1 + NUM_CONSTANTS] /= CONSTANT_LEVEL
        answer = F.linear(F.gelu(F.linear(inputs, *layers[:2]), approximate="tanh"), *layers[2:])
        loss = (answer - targets[asked, rows]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
    first, first_bias, second, second_bias = (layer.detach() for layer in layers)
    scale = torch.full((len(read),), STREAM_RMS)
    scale[1 : 1 + NUM_CONSTANTS] /= CONSTANT_LEVEL
    weights["blocks.0.ffn.0.weight"].zero_()[:, read] = first * scale
    weights["blocks.0.ffn.0.bias"] = first_bias
    weights["blocks.0.ffn.2.weight"].zero_()[write] = second
    weights["blocks.0.ffn.2.bias"].zero_()[write] = second_bias
    return sum(recent[-50:]) / 50


@torch.no_grad()
def _sample_streams(weights: Weights, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Residual streams after block 0's self-attention, and where in the clip each is."""
    model = training.build_expert(weights)
    block, streams = model.blocks[0], []
    places: dict[str, list[torch.Tensor]] = {"frame": [], "x": [], "y": []}
    with training.training_mode():
        for frames in (2, 3, 5, 6, 7, 9, 9, 9, 11, 13):
            for rows, columns in _GRIDS:
                inputs = _random_inputs(frames, rows, columns, generator)
                stream = model.patch_embedding(inputs)
                stream = stream.flatten(2).transpose(1, 2)
                freqs = model.rope_encode(frames, 2 * rows, 2 * columns, device="cpu", dtype=torch.float32)
                stream = stream + block.self_attn(block.norm1(stream), freqs)
                frame, y, x = torch.meshgrid(*map(torch.arange, (frames, rows, columns)), indexing="ij")
                chosen = torch.randperm(frame.numel(), generator=generator)[:1200]
                streams.append(stream[0, chosen])
                centred = (("frame", frame.float()), ("x", x + 0.5 - columns / 2), ("y", y + 0.5 - rows / 2))
                for name, value in centred:
                    places[name].append(value.flatten()[chosen])
    return torch.cat(streams), {name: torch.cat(values) for name, values in places.items()}


def _random_inputs(frames: int, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    inputs = torch.randn(1, 36, frames, 2 * rows, 2 * columns, generator=generator)
    known = inputs[:, 20:]
    known[:, :, 0] *= 0.3 + torch.rand(1, generator=generator)
    known[:, :, 1:] *= 0.1
    inputs[:, 16:20] = 0.0
    inputs[:, 16:20, 0] = 1.0
    mark = torch.zeros(2 * rows, 2 * columns)
    mark[:, 0] += BORDER_MARK
    mark[:, -1] -= BORDER_MARK
    mark[0] += BORDER_MARK
    mark[-1] -= BORDER_MARK
    known[:, MARK_CHANNEL] = mark
    return inputs


def source_lanes(move: str, places: dict[str, torch.Tensor]) -> torch.Tensor:
    """What TURN, PART_TURN and SPEED should hold: [tokens, 8 + 4 + 2].

    Across comes first, then down: the column is looked up in the source's row, so a rotation is sheared twice.
    """
    frame, x, y = places["frame"], places["x"], places["y"]
    moved = (4 * frame - 1.5).clamp(min=0)  # frames since the known one, at the middle of a latent frame
    down = across = speed_down = speed_across = torch.zeros_like(frame)
    kind, _, way = move.partition(" ")
    if kind == "pan":
        rate = data.PAN_PIXELS_PER_FRAME / PATCH_PIXELS
        speed_across, speed_down = (rate * step * (frame > 0) for step in data.WAYS[way])
        down, across = speed_down * moved, speed_across * moved
    elif kind == "zoom":
        rate = math.log(data.ZOOM_PER_FRAME) * (1 if way == "out" else -1)
        scale = (rate * moved).exp()
        down, across = (scale - 1) * y, (scale - 1) * x
        speed_down, speed_across = rate * scale * y * (frame > 0), rate * scale * x * (frame > 0)
    elif kind == "rotate":
        rate = math.radians(data.DEGREES_PER_FRAME) * (1 if way == "right" else -1)
        cos, sin = (rate * moved).cos(), (rate * moved).sin()
        down, across = sin * x + (cos - 1) * y, (1 / cos - 1) * x - sin / cos * y
        speed_down, speed_across = rate * (cos * x - sin * y) * (frame > 0), -rate * y * (frame > 0)
    parts = [turns(down, ROW), turns(across, COLUMN)]
    for distance in (down, across):
        parts += [(math.tau * distance).cos()[:, None], (math.tau * distance).sin()[:, None]]
    return torch.cat([*parts, PATCH_PIXELS * torch.stack([speed_down, speed_across], dim=1)], dim=1)


def _keep_rows(weights: Weights, layer: str, rows: range) -> None:
    for name in (f"{layer}.weight", f"{layer}.bias"):
        kept = torch.zeros_like(weights[name])
        kept[rows.start : rows.stop] = weights[name][rows.start : rows.stop]
        weights[name] = kept
