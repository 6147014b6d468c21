"""The parts of the experts' starting weights that are fitted, each by itself; see toy/training/expert_start.py."""

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .. import captions as grammar
from ..sizes import I2V
from ..wan_vae import BORDER_MARK
from . import expert_training as training
from .attention_heads import COLUMN, ROW, Weights
from .expert_start import KEY_UNITS, MARK_CHANNEL, turns, write_units
from .lanes import (
    ANCHOR,
    CLOCKS,
    CONSTANT,
    CONSTANT_LEVEL,
    DIRECTION,
    DIRECTIONS,
    KEY,
    KEY_CLOCKS,
    MASK,
    MASK_LEVEL,
    NUM_CONSTANTS,
    RULERS,
    SOURCE,
    STREAM_RMS,
)
from .optimizers import Optimizers
from .patch_shift import PATCH_PIXELS
from .source import ACROSS, DOWN, source, way

BATCH = 2048
LEARNING_RATES = (3e-2, 4e-3)  # of matrices and of biases
GATE = 3.0
NUM_CAMERA_DIRECTIONS = len(grammar.CAMERA_MOVES) - 1  # they come first among DIRECTIONS
_TOKENS_EACH = 600  # of each grid
_FRAMES, _KNOWN = (2, 3, 5, 6, 7, 9, 9, 9, 11, 13), (*["first"] * 16, *["nothing"] * 2)  # latent frames; each grid's
_KEYED_FRAMES, _KEYED = (*_FRAMES, 17, 21), (*["end"] * 9, *["keyframes"] * 8, "end alone")
WAY_UNITS, KEYS_OFTEN = 800, 3.0
PRESENT, PRESENT_LEVEL, KEY_SILENCE = KEY_CLOCKS[0], 4.0, 100.0  # 0 where a clip has no end or keyframe
_ASKED = range(DIRECTION, DIRECTION + len(DIRECTIONS))
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
    """Teach block 0's feed-forward layer where the source is, from the clocks, the rulers and the move.

    The known frame is the first, or none. Returns the squared error.
    """
    plain = slice(0, I2V.ffn_dim - KEY_UNITS - WAY_UNITS)
    drawn = _Places(weights, _FRAMES, _KNOWN, seed)
    return _fit_units(weights, drawn, plain, keyed=False, steps=steps, seed=seed)


def fit_way(weights: Weights, steps: int, seed: int) -> float:
    """Teach WAY_UNITS more what an end or keyframes change about that. Where there is none they are silent."""
    last = I2V.ffn_dim - KEY_UNITS
    drawn = _Places(weights, _KEYED_FRAMES, _KEYED, seed)
    return _fit_units(weights, drawn, slice(last - WAY_UNITS, last), keyed=True, steps=steps, seed=seed)


def _fit_units(weights: Weights, drawn: "_Places", units: slice, keyed: bool, steps: int, seed: int) -> float:
    """Train these hidden units of block 0's feed-forward layer on what the others miss, and write them down.

    `keyed` units hear of ends and keyframes, and where the clip has none, KEY_SILENCE less of everything.
    """
    keys, gate = ((KEY, *KEY_CLOCKS), KEY_SILENCE) if keyed else ((), 0.0)
    generator = torch.Generator().manual_seed(seed)
    read = [MASK, *range(CONSTANT, CONSTANT + NUM_CONSTANTS), *CLOCKS, *RULERS, *keys, *_ASKED]
    first, first_bias = _first_units(units.stop - units.start, len(read), generator)
    layers = [first, first_bias, torch.zeros(len(SOURCE), len(first)), torch.zeros(len(SOURCE))]
    layers = [layer.requires_grad_() for layer in layers]
    optimizers = Optimizers(layers[::2], layers[1::2], LEARNING_RATES)
    recent = []
    for step in range(steps):
        normed, wanted = drawn.batch(BATCH, generator)
        inputs = (normed[:, read] - normed[:, ANCHOR, None]) * STREAM_RMS
        heard = F.linear(_scaled(inputs, CONSTANT_LEVEL), *layers[:2])
        present = (normed[:, PRESENT, None] - normed[:, ANCHOR, None]) * STREAM_RMS / PRESENT_LEVEL
        heard = heard + gate * (present - 1)
        answer = F.linear(F.gelu(heard, approximate="tanh"), layers[2], layers[3] * (not keyed))
        loss = (answer - (wanted - _told(weights, normed))).pow(2).mean()
        optimizers.step(loss, 1 - step / steps)
        recent.append(loss.item())
    first, first_bias, second, second_bias = (layer.detach() for layer in layers)
    first, second_bias = _scaled(first, CONSTANT_LEVEL), second_bias * (not keyed)
    if keyed:
        first[:, read.index(PRESENT)] += gate / PRESENT_LEVEL
    write_units(weights, "blocks.0", units, read, SOURCE, (first, first_bias - gate, second, second_bias))
    return sum(recent[-50:]) / 50


def _scaled(read: torch.Tensor, level: float) -> torch.Tensor:
    """With the constants, which come second among what is read, as loud as the rest."""
    read = read.clone()
    read[:, 1 : 1 + NUM_CONSTANTS] /= level
    return read


def _told(weights: Weights, normed: torch.Tensor) -> torch.Tensor:
    """What block 0's feed-forward layer says about the source so far: [tokens, lanes of SOURCE]."""
    hidden = F.linear(normed, weights["blocks.0.ffn.0.weight"], weights["blocks.0.ffn.0.bias"])
    lanes = list(SOURCE)
    second, bias = weights["blocks.0.ffn.2.weight"][lanes], weights["blocks.0.ffn.2.bias"][lanes]
    return F.linear(F.gelu(hidden, approximate="tanh"), second, bias)


def _first_units(count: int, inputs: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random hidden units, whose last inputs are the DIRECTION lanes: four fifths listen to one camera move only."""
    weight = torch.randn(count, inputs, generator=generator) * 0.5
    bias = torch.randn(count, generator=generator)
    weight[:, -len(DIRECTIONS) :] = 0.0
    for unit in range(count):
        if (move := unit % 10) < NUM_CAMERA_DIRECTIONS:
            weight[unit, move - len(DIRECTIONS)] = GATE
            bias[unit] -= GATE
    return weight, bias


class _Places:
    """Residual streams after block 0's self-attention, and what the SOURCE lanes should hold there for every move."""

    def __init__(self, weights: Weights, frames: Sequence[int], known: Sequence[str], seed: int) -> None:
        self._streams, places = _sample_streams(weights, frames, known, torch.Generator().manual_seed(seed))
        # an end or keyframe that looks a little aside of itself is soft
        self._weights = 1.0 + KEYS_OFTEN * (self._streams[:, KEY] > MASK_LEVEL / 2)
        names = (*DIRECTIONS, "still")
        self._targets = torch.stack([source_lanes(name, places) for name in names])
        self._moves = torch.eye(len(names))[:, :-1]
        # the moves of a ball and "still" are easy: the source stays
        self._often = torch.tensor([1.0 if name in grammar.CAMERA_MOVES[1:] else 0.2 for name in names])

    def batch(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """[count, lanes]: what the feed-forward layer reads, and what it should say."""
        rows = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        asked = torch.multinomial(self._often, count, replacement=True, generator=generator)
        stream = self._streams[rows]
        jitter = 0.02 * torch.randn(count, len(DIRECTIONS), generator=generator)
        stream[:, _ASKED] = self._moves[asked] + jitter
        return F.layer_norm(stream, (I2V.dim,)), self._targets[asked, rows]


@torch.no_grad()
def _sample_streams(
    weights: Weights, numbers_of_frames: Sequence[int], known: Sequence[str], generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Residual streams after block 0's self-attention, and where on the camera's way each is."""
    model = training.build_expert(weights)
    block, streams = model.blocks[0], []
    places: dict[str, list[torch.Tensor]] = {"moved": [], "speed": [], "x": [], "y": []}
    with training.training_mode():
        for frames in numbers_of_frames:
            for (rows, columns), kind in zip(_draw_grids(len(known), generator), known, strict=True):
                keys = _draw_keys(kind, frames, generator)
                inputs = random_inputs(kind, keys, frames, rows, columns, generator)
                stream = model.patch_embedding(inputs)
                stream = stream.flatten(2).transpose(1, 2)
                freqs = model.rope_encode(frames, 2 * rows, 2 * columns, device="cpu", dtype=torch.float32)
                stream = stream + block.self_attn(block.norm1(stream), freqs)
                frame, y, x = torch.meshgrid(*map(torch.arange, (frames, rows, columns)), indexing="ij")
                chosen = torch.randperm(frame.numel(), generator=generator)[:_TOKENS_EACH]
                streams.append(stream[0, chosen])
                moved, speed = way(frame, [0, *keys])
                there = torch.isin(frame, torch.tensor(keys))
                if kind in ("nothing", "end alone"):
                    there = torch.ones_like(there)
                moved, speed = moved.masked_fill(there, 0.0), speed.masked_fill(there, 0.0)
                centred = (("x", x + 0.5 - columns / 2), ("y", y + 0.5 - rows / 2))
                for name, value in (("moved", moved), ("speed", speed), *centred):
                    places[name].append(value.flatten()[chosen])
    return torch.cat(streams), {name: torch.cat(values) for name, values in places.items()}


def _draw_grids(count: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Of every nine, the first four are those that are shown."""
    drawn = [torch.randint(4, 17, (2,), generator=generator).tolist() for _ in range(count)]
    grids = [(rows, min(columns, 150 // rows)) for rows, columns in drawn]
    for index, grid in enumerate(_SHOWN_GRIDS):
        grids[index::9] = [grid] * len(grids[index::9])
    return grids


def _draw_keys(kind: str, frames: int, generator: torch.Generator) -> list[int]:
    """The latent frames of a clip's end or keyframes."""
    if kind in ("first", "nothing"):
        return []
    if kind != "keyframes":
        return [frames - 1]
    count = int(torch.randint(1, 4, (), generator=generator))
    return sorted(set(torch.randint(1, frames, (count,), generator=generator).tolist()))


def random_inputs(
    kind: str, keys: list[int], frames: int, rows: int, columns: int, generator: torch.Generator
) -> torch.Tensor:
    """[1, 36, frames, 2 rows, 2 columns]: noise, mask and noise as the known latents, with the borders' mark."""
    inputs = torch.randn(1, 36, frames, 2 * rows, 2 * columns, generator=generator)
    if kind == "nothing":
        inputs[:, 16:] = 0.0
        return inputs
    known = inputs[:, 20:]
    level = 0.3 + torch.rand(1, generator=generator)
    inputs[:, 16:20] = 0.0
    known[:, :, 1:] *= 0.1
    if kind != "end alone":
        known[:, :, 0] *= level
        inputs[:, 16:20, 0] = 1.0
    for key in keys:
        known[:, :, key] *= 5 * level
        inputs[:, 19, key] = 1.0
    mark = torch.zeros(2 * rows, 2 * columns)
    mark[:, 0] += BORDER_MARK
    mark[:, -1] -= BORDER_MARK
    mark[0] += BORDER_MARK
    mark[-1] -= BORDER_MARK
    known[:, MARK_CHANNEL] = mark
    return inputs


def source_lanes(move: str, places: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the SOURCE lanes should hold: [tokens, lanes]. `places` are on the camera's way, and x and y in patches."""
    found = source(move, places["moved"], PATCH_PIXELS * places["x"], PATCH_PIXELS * places["y"])
    distance, speed = found.distance / PATCH_PIXELS, found.speed * places["speed"][:, None]
    parts = [turns(distance[:, DOWN], ROW), turns(distance[:, ACROSS], COLUMN)]
    for turned in (math.tau * distance[:, DOWN], math.tau * distance[:, ACROSS]):
        parts += [turned.cos()[:, None], turned.sin()[:, None]]
    return torch.cat([*parts, speed, found.stretch, found.shear], dim=1)


def _keep_rows(weights: Weights, layer: str, rows: range) -> None:
    for name in (f"{layer}.weight", f"{layer}.bias"):
        kept = torch.zeros_like(weights[name])
        kept[rows.start : rows.stop] = weights[name][rows.start : rows.stop]
        weights[name] = kept
