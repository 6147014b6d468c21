"""The parts of the experts' starting weights that are fitted, each by itself; see toy/expert_start.py."""

import random

import torch
import torch.nn.functional as F

from . import captions as grammar
from . import data
from . import expert_training as training
from .attention_heads import COLUMN, ROW, Weights
from .expert_start import MARK_CHANNEL, patch_lanes, turns
from .lanes import (
    ACROSS,
    BESIDE,
    CLOCKS,
    CONSTANT,
    DIRECTION,
    DIRECTIONS,
    DOWN,
    KNOWN,
    MASK,
    NUM_CONSTANTS,
    NUM_PHASES,
    PHASE,
    STREAM_RMS,
    TURN_BESIDE,
    TURN_COPIED,
)
from .sizes import I2V
from .wan_vae import BORDER_MARK

PATCH_PIXELS = 16
_GATE_STEP, _GATE_OPEN = 16.0, 6.0
_GRIDS = ((6, 8), (8, 6), (5, 6), (6, 6), (10, 15), (15, 10))
_ASK = {"pan left": (COLUMN, -1), "pan right": (COLUMN, 1), "pan up": (ROW, -1), "pan down": (ROW, 1)}


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
    read = [MASK, *range(CONSTANT, CONSTANT + NUM_CONSTANTS), *CLOCKS, ACROSS, DOWN]
    read += range(DIRECTION, DIRECTION + len(DIRECTIONS))
    write = [*range(PHASE, PHASE + NUM_PHASES), *range(TURN_COPIED, TURN_BESIDE + 8)]
    hidden = I2V.ffn_dim
    first = torch.randn(hidden, len(read), generator=generator) * 0.5
    layers = [first, torch.randn(hidden, generator=generator), torch.zeros(len(write), hidden), torch.zeros(len(write))]
    layers = [layer.requires_grad_() for layer in layers]
    optimizer = torch.optim.Adam(layers, lr=4e-3)
    moves = torch.eye(len(DIRECTIONS) + 1)[:, :-1]
    targets = torch.stack([_source_lanes(name, places) for name in (*DIRECTIONS, "still")])
    recent = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1.0, 1.5 * (1 - step / steps))
        rows = torch.randint(len(streams), (768,), generator=generator)
        asked = torch.randint(len(moves), (768,), generator=generator)
        stream = streams[rows].clone()
        jitter = 0.03 * torch.randn(768, len(DIRECTIONS), generator=generator)
        stream[:, DIRECTION : DIRECTION + len(DIRECTIONS)] = moves[asked] + jitter
        inputs = F.layer_norm(stream, (I2V.dim,))[:, read] * STREAM_RMS
        inputs[:, 1 : 1 + NUM_CONSTANTS] /= 32.0
        answer = F.linear(F.gelu(F.linear(inputs, *layers[:2]), approximate="tanh"), *layers[2:])
        loss = (answer - targets[asked, rows]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
    first, first_bias, second, second_bias = (layer.detach() for layer in layers)
    scale = torch.full((len(read),), STREAM_RMS)
    scale[1 : 1 + NUM_CONSTANTS] /= 32.0
    weights["blocks.0.ffn.0.weight"].zero_()[:, read] = first * scale
    weights["blocks.0.ffn.0.bias"] = first_bias
    weights["blocks.0.ffn.2.weight"].zero_()[write] = second
    weights["blocks.0.ffn.2.bias"].zero_()[write] = second_bias
    return sum(recent[-50:]) / 50


def fit_pictures(weights: Weights, shards: list[dict]) -> dict[str, float]:
    """Least squares: the new patch from the copied one and the one beside it, a map for each pan and phase."""
    errors = {}
    for index, move in enumerate(_ASK):
        block, local = f"blocks.{1 + index // 2}", index % 2
        inputs, answers = _pan_examples(shards, move)
        for phase in range(NUM_PHASES):
            x, y = torch.cat(inputs[phase]), torch.cat(answers[phase])
            x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
            ridge = 1e-4 * len(x) * torch.eye(x.shape[1], dtype=torch.double)
            solution = torch.linalg.solve(x.T @ x + ridge, x.T @ y.double())
            errors[f"{move} {phase}"] = (x @ solution - y).pow(2).mean().item()
            solution[:60] -= torch.eye(60, dtype=torch.double)  # the copied patch is already in place
            unit = 64 * (NUM_PHASES * local + phase)
            _write_picture_map(weights, block, unit, index, phase, x, solution)
    return errors


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
                chosen = torch.randperm(frame.numel(), generator=generator)[:400]
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


def _source_lanes(move: str, places: dict[str, torch.Tensor]) -> torch.Tensor:
    """What PHASE, TURN_COPIED and TURN_BESIDE should hold: [tokens, 4 + 8 + 8]."""
    frame = places["frame"]
    later = frame > 0
    phase = F.one_hot(frame.long() % NUM_PHASES, NUM_PHASES).float() * later[:, None]
    moved = (4 * frame - 1.5).clamp(min=0)  # frames since the known one, at the middle of a latent frame
    offsets = {ROW: torch.zeros_like(frame), COLUMN: torch.zeros_like(frame)}
    beside = dict(offsets)
    if move in _ASK:
        part, sign = _ASK[move]
        whole = torch.floor(moved * data.PAN_PIXELS_PER_FRAME / PATCH_PIXELS)
        offsets[part], beside[part] = sign * whole * later, sign * (whole + 1) * later
    elif move.startswith("zoom"):
        scale = data.ZOOM_PER_FRAME ** (moved if move == "zoom out" else -moved)
        offsets = {ROW: (scale - 1) * places["y"], COLUMN: (scale - 1) * places["x"]}
    return torch.cat([phase, *(turns(o[part], part) for o in (offsets, beside) for part in (ROW, COLUMN))], dim=1)


def _pan_examples(shards: list[dict], move: str) -> tuple[list[list[torch.Tensor]], list[list[torch.Tensor]]]:
    """By phase: [copied, beside] picture channels and the new patch's, where both sources lie inside the picture."""
    part, sign = _ASK[move]
    axis = 1 if part == ROW else 2
    inputs: list[list[torch.Tensor]] = [[] for _ in range(NUM_PHASES)]
    answers: list[list[torch.Tensor]] = [[] for _ in range(NUM_PHASES)]
    for shard in shards:
        rows = [index for index, other in enumerate(shard["moves"]) if other == move]
        if not rows:
            continue
        latents = shard["latents"][rows][:, :MARK_CHANNEL].float()
        known = patches(latents[:, :, 0])
        for frame in range(1, latents.shape[2]):
            whole = int((4 * frame - 1.5) * data.PAN_PIXELS_PER_FRAME // PATCH_PIXELS)
            new = patches(latents[:, :, frame])
            count = known.shape[axis] - whole - 1
            at = 0 if sign > 0 else whole + 1
            copied = known.narrow(axis, at + sign * whole, count)
            beside = known.narrow(axis, at + sign * (whole + 1), count)
            inputs[frame % NUM_PHASES].append(torch.cat([copied, beside], dim=-1).reshape(-1, 120))
            answers[frame % NUM_PHASES].append(new.narrow(axis, at, count).reshape(-1, 60))
    return inputs, answers


def patches(latents: torch.Tensor) -> torch.Tensor:
    """[batch, channels, h, w] to [batch, h/2, w/2, 4 * channels], in the order of patch_lanes."""
    split = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # batch, channel, row, 2, column, 2
    return split.permute(0, 2, 4, 3, 5, 1).flatten(3)


def _write_picture_map(
    weights: Weights, block: str, unit: int, direction: int, phase: int, inputs: torch.Tensor, solution: torch.Tensor
) -> None:
    """Sixty hidden units carry the map's principal outputs while open, one more takes their opening back out."""
    change = inputs[:, :-1] @ solution[:-1]
    _, axes = torch.linalg.eigh(torch.cov(change.T))
    spread = (change @ axes).std(dim=0).clamp(min=1e-4)
    into = (solution[:-1] @ axes / spread).float()
    out_of = (axes * spread).float()
    first, first_bias = weights[f"{block}.ffn.0.weight"], weights[f"{block}.ffn.0.bias"]
    second = weights[f"{block}.ffn.2.weight"]
    picture = range(MARK_CHANNEL)
    read = patch_lanes(KNOWN, picture) + patch_lanes(BESIDE, picture)
    units = slice(unit, unit + 64)
    first[units], first_bias[units] = 0.0, _GATE_OPEN - 2 * _GATE_STEP
    first[unit : unit + 60, read] = into.T * STREAM_RMS
    first[units, DIRECTION + direction] = _GATE_STEP * STREAM_RMS
    first[units, PHASE + phase] = _GATE_STEP * STREAM_RMS
    second[:, units] = 0.0
    written = patch_lanes(KNOWN, picture)
    second[written, unit : unit + 60] = out_of
    second[written, unit + 60] = (solution[-1].float() - _GATE_OPEN * out_of.sum(dim=1)) / _GATE_OPEN


def _keep_rows(weights: Weights, layer: str, rows: range) -> None:
    for name in (f"{layer}.weight", f"{layer}.bias"):
        kept = torch.zeros_like(weights[name])
        kept[rows.start : rows.stop] = weights[name][rows.start : rows.stop]
        weights[name] = kept
