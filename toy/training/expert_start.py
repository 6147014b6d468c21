"""Where the experts' training begins: weights that can already find and shift what the words ask for.

Gradient descent on a processor does not find such circuits from random numbers in hours, so the parts are written down
or trained alone first (toy/training/expert_fits.py, toy/training/patch_shift.py), and trained together afterwards:

- Block 0 finds out where a token is and what is asked. Three heads measure how far the first frame is in time, four the
  place between the borders that the VAE marks; one head, and two of those four, how near an end or keyframe is.
  Cross-attention names the move, and the feed-forward layer turns all of it into the place of the source: where this
  patch was in a known frame. Of an end's latents, which hold three grey frames and the picture, it makes those of a
  still clip, which is how the end is shown, and beside it what the other frames need to make a first frame's of it.
- Block 1 brings two neighbouring patches of the source's column from the first frame, an end or a keyframe, mixed by
  how near in time they are; its feed-forward layer shifts them by the part of a patch that is left. Block 2 does the
  same down the columns of its own frame.
- Block 3 says nothing yet. It looks around in its own frame and at the known one, knows the noise level through lanes
  that no other block reads, and is what gradient training then trains.
- The head answers velocity = c noisy - d known, with c and d of the noise level through the time embedding.

Large constants in the residual stream keep the layer norms' scale steady.
"""

import copy
import math
from collections.abc import Sequence

import torch

from .. import layout
from ..initial_weights import fresh_weights
from ..sizes import I2V
from ..wan_vae import BORDER_MARK
from .attention_heads import COLUMN, HEAD_DIM, ROW, TIME, Head, Weights, balance, frequency, write_copy, write_scores
from .key_fits import PatchMap
from .lanes import (
    ANCHOR,
    BESIDE,
    CLOCKS,
    CONSTANT,
    CONSTANT_LEVEL,
    FREE,
    KEY,
    KEY_CLOCKS,
    KNOWN,
    MASK,
    MASK_LEVEL,
    NOISY,
    NUM_CONSTANTS,
    PART_TURN,
    RULERS,
    SHEAR,
    SPEED,
    STREAM_RMS,
    STRETCH,
    TIME_SHIFT,
    TURN,
)
from .patch_shift import NEIGHBOURS, SHARP, WIDE, ShiftNetwork

MARK_CHANNEL = 15
FREE_BLOCK = "blocks.3"
KEY_UNITS, KEY_GATE = 2 * (4 * MARK_CHANNEL + 1 + len(KEY_CLOCKS)), 20.0
RULER = 2.0  # score of a ruler's peak: small, so that it tells places apart all the way
NEARER = (4.0, 16.0, 60.0)  # scores at the fastest frequencies of time: how much nearer known frames count more
_CLOCK_CENTRES = (3.0, 9.0, 15.0)  # latent frames


@torch.no_grad()
def skeleton(grey: torch.Tensor, seed: int) -> Weights:
    """Everything that can be written down; the fits come after. `grey` [16]: the latents of an unknown frame."""
    weights = fresh_weights(layout.expert(I2V), seed)
    _write_patch_embedding(weights, grey)
    for name in weights:
        if name.endswith((".o.weight", "cross_attn.q.weight", "ffn.2.weight", "time_projection.1.weight")):
            weights[name].zero_()
        if name.endswith(".modulation"):
            weights[name].zero_()
    for index in range(I2V.num_layers):
        weights[f"blocks.{index}.modulation"][:, (2, 5)] = 1.0
    _write_where(weights, "blocks.0")
    _write_across(weights, "blocks.1")
    _write_down(weights, "blocks.2")
    _write_free(weights, FREE_BLOCK, torch.Generator().manual_seed(seed))
    head = weights["head.head.weight"].zero_()
    for lane in range(64):
        head[lane, NOISY + lane], head[lane, KNOWN + lane] = STREAM_RMS, -STREAM_RMS
    return weights


def write_shift(weights: Weights, part: int, network: ShiftNetwork) -> None:
    """Make `network` the feed-forward layer of the block that moves along `part`, ROW or COLUMN."""
    block, axis = ("blocks.2", 0) if part == ROW else ("blocks.1", 1)
    picture = range(MARK_CHANNEL)
    turn = PART_TURN + 2 * axis
    read = [*patch_lanes(KNOWN, picture), *patch_lanes(BESIDE, picture), turn, turn + 1]
    read += [lanes + axis for lanes in (SPEED, STRETCH, SHEAR)] + [MASK]
    into, into_bias, out_of, out_of_bias = (parameter.detach().clone() for parameter in network.parameters())
    into[:, -1] /= MASK_LEVEL
    write_feed_forward(weights, block, read, patch_lanes(KNOWN, picture), (into, into_bias, out_of, out_of_bias))


def write_keyframes(weights: Weights, still: PatchMap, first: PatchMap) -> None:
    """Use block 0's last KEY_UNITS: make an end or keyframe a known frame, its patch `still` of what it was.

    What `first` makes of it, less that, goes to BESIDE: the other frames are given the sum.

    gelu(x) - gelu(-x) = x, and gelu(c + x) - gelu(c - x) = 2 x where both are far above zero, 0 where far below.
    """
    picture = patch_lanes(KNOWN, range(MARK_CHANNEL))
    clear = [KEY, *KEY_CLOCKS]
    read = [*picture, *clear]
    write = [*picture, *patch_lanes(BESIDE, range(MARK_CHANNEL)), MASK, *clear]
    count, key = len(picture), len(picture)
    into, bias = torch.zeros(KEY_UNITS, len(read)), torch.zeros(KEY_UNITS)
    out_of = torch.zeros(len(write), KEY_UNITS)
    for lane in range(len(read)):
        plus, minus = 2 * lane, 2 * lane + 1
        into[plus, lane], into[minus, lane] = 1.0, -1.0
        if lane < count:
            into[plus : minus + 1, key] = 2 * KEY_GATE / MASK_LEVEL
            bias[plus : minus + 1] = -KEY_GATE
    change = torch.cat([still.matrix - torch.eye(count), first.matrix - still.matrix]) / 2
    offset = torch.cat([still.offset, first.offset - still.offset, torch.tensor([MASK_LEVEL])]) / MASK_LEVEL
    out_of[: 2 * count, : 2 * count : 2], out_of[: 2 * count, 1 : 2 * count : 2] = change, -change
    out_of[: len(offset), 2 * key], out_of[: len(offset), 2 * key + 1] = offset, -offset
    for index in range(len(clear)):
        unit = 2 * (key + index)
        out_of[len(offset) + index, unit], out_of[len(offset) + index, unit + 1] = -1.0, 1.0
    units = slice(I2V.ffn_dim - KEY_UNITS, I2V.ffn_dim)
    write_units(weights, "blocks.0", units, read, write, (into, bias, out_of, torch.zeros(len(write))))


def write_feed_forward(
    weights: Weights, block: str, read: Sequence[int], write: Sequence[int], layers: tuple[torch.Tensor, ...]
) -> None:
    """Make a small network the block's feed-forward layer, between the lanes that it reads and those it adds to.

    `layers` are its two weights, each with its bias, for the lanes at the stream's true scale.
    """
    weights[f"{block}.ffn.2.bias"].zero_()
    write_units(weights, block, slice(0, I2V.ffn_dim), read, write, layers)


def write_units(
    weights: Weights,
    block: str,
    units: slice,
    read: Sequence[int],
    write: Sequence[int],
    layers: tuple[torch.Tensor, ...],
) -> None:
    """The same for some of the layer's hidden units, beside what the others say."""
    first, first_bias, second, second_bias = layers
    reading, writing = weights[f"{block}.ffn.0.weight"], weights[f"{block}.ffn.2.weight"]
    rows = torch.zeros_like(reading[units])
    rows[:, list(read)], rows[:, ANCHOR] = first * STREAM_RMS, -first.sum(dim=1) * STREAM_RMS
    columns = torch.zeros_like(writing[:, units])
    columns[list(write)] = second
    reading[units], writing[:, units] = rows, columns
    weights[f"{block}.ffn.0.bias"][units] = first_bias
    weights[f"{block}.ffn.2.bias"][list(write)] += second_bias


def patch_lanes(first: int, channels: range = range(16)) -> list[int]:
    """The lanes of a patch's channels, all four latents."""
    return [first + 16 * latent + channel for latent in range(4) for channel in channels]


def turns(offset: torch.Tensor, part: int) -> torch.Tensor:
    """What TURN lanes hold for an offset in tokens along rows or columns: [..., 4]."""
    return torch.stack(
        [
            value
            for pair in (0, 1)
            for value in ((offset * frequency(part, pair)).cos() - 1, (offset * frequency(part, pair)).sin())
        ],
        dim=-1,
    )


def _write_patch_embedding(weights: Weights, grey: torch.Tensor) -> None:
    patch, bias = weights["patch_embedding.weight"].zero_(), weights["patch_embedding.bias"]
    for latent in range(4):
        row, column = divmod(latent, 2)
        for channel in range(16):
            lane = 16 * latent + channel
            patch[NOISY + lane, channel, 0, row, column] = 1.0
            patch[KNOWN + lane, 20 + channel, 0, row, column] = 1.0
            patch[KNOWN + lane, 16:20] = grey[channel] / 16
            bias[KNOWN + lane] = -grey[channel]
    patch[MASK, 16] = MASK_LEVEL / 4
    patch[KEY, 19], patch[KEY, 16] = MASK_LEVEL / 4, -MASK_LEVEL / 4
    bias[CONSTANT : CONSTANT + NUM_CONSTANTS] = CONSTANT_LEVEL * torch.tensor([1.0, -1.0] * (NUM_CONSTANTS // 2))


def _border_lanes(axis: str, ends: str) -> dict[int, float]:
    """Weights that read the border marks: `ends` "either" gives 1 at both ends of the axis, "sign" 1 and -1."""
    near, far = ((0, 2), (1, 3)) if axis == "across" else ((0, 1), (2, 3))
    far_sign = -1.0 if ends == "either" else 1.0
    marks = {KNOWN + 16 * latent + MARK_CHANNEL: 0.25 for latent in near}
    return marks | {KNOWN + 16 * latent + MARK_CHANNEL: 0.25 * far_sign for latent in far}


def _write_where(weights: Weights, block: str) -> None:
    """Block 0's heads: three clocks, four rulers, of which two also say whether there is an end or keyframe and whether
    one lies ahead, and how near the nearest is."""
    heads = []
    slow, sink = 24.0, 12.0
    turn = frequency(TIME, 2)
    for centre in _CLOCK_CENTRES:
        own_frame = slow * math.cos(10 * turn) + 2 * sink
        score = own_frame - slow * math.cos((10 + centre) * turn)
        head = Head().peak(TIME, 0, sink).peak(TIME, 1, sink).peak(TIME, 2, slow, offset=10.0)
        head.not_for_known(TIME, 0).not_for_known(TIME, 1).gate(score, {MASK: 1.0 / MASK_LEVEL})
        heads.append(head)
    heads.append(Head().gate(30.0, _border_lanes("across", "either")).peak(COLUMN, 1, RULER))
    heads.append(Head().gate(30.0, _border_lanes("down", "either")).peak(ROW, 1, RULER))
    heads.append(Head().gate(2.0, _first_border("across")).peak(COLUMN, 1, RULER))
    heads.append(Head().gate(2.0, _first_border("down")).peak(ROW, 1, RULER))
    plain = [*copy.deepcopy(heads), _surroundings()]
    heads[3].louder(KEY, 14.0)
    heads[4].louder(KEY, 2.0).time_peak_of(KEY, 2, 100.0, math.pi / 2 / turn)
    heads.append(_key_clock())
    balance(heads, plain)
    write_scores(weights, block, heads)
    value, out = weights[f"{block}.self_attn.v.weight"], weights[f"{block}.self_attn.o.weight"]
    readings = [{MASK: 1.0 / MASK_LEVEL}] * 3 + [_border_lanes("across", "sign"), _border_lanes("down", "sign")]
    readings += [_first_border("across"), _first_border("down")]
    for index, (reading, lane_out) in enumerate(zip(readings, (*CLOCKS, *RULERS), strict=True)):
        value[index * HEAD_DIM : (index + 1) * HEAD_DIM] = 0.0
        for lane, weight in reading.items():
            value[index * HEAD_DIM, lane] = weight * STREAM_RMS
        value[index * HEAD_DIM, ANCHOR] = -sum(reading.values()) * STREAM_RMS
        out[lane_out, index * HEAD_DIM] = 4.0
    value[7 * HEAD_DIM :] = 0.0
    for index, lane_out in zip((3, 4, 7), KEY_CLOCKS, strict=True):
        channel = index * HEAD_DIM + 1
        value[channel, KEY], value[channel, ANCHOR] = STREAM_RMS / MASK_LEVEL, -STREAM_RMS / MASK_LEVEL
        out[lane_out, channel] = 4.0


def _key_clock() -> Head:
    """Keys of the first frame against those of ends and keyframes: even where these are five latents away."""
    level, near, wide = 30.0, 0.6, 6.0
    head = Head().time_peak_of(KEY, 0, near).time_peak_of(KEY, 1, wide)
    at_centre = wide * math.cos(5 * frequency(TIME, 1))
    return head.gate(level, {MASK: 1.0 / MASK_LEVEL, KEY: (1.0 - at_centre / level) / MASK_LEVEL})


def _first_border(axis: str) -> dict[int, float]:
    """Weights that read 1 at the left or the upper border, 0 inside."""
    return {KNOWN + 16 * (2 if axis == "across" else 1) + MARK_CHANNEL: 1.0 / BORDER_MARK}


def _surroundings() -> Head:
    return Head().place(ROW, 8.0, 16.0).place(COLUMN, 8.0, 16.0).peak(TIME, 0, 4.0)


def _write_across(weights: Weights, block: str) -> None:
    """Block 1: the source's column of the known frames and the one beside it, each in two halves.

    Two heads clear what block 0 has put beside, two are spare.
    """

    def known_frames(neighbour: float, nearer: Sequence[float]) -> Head:
        head = Head().place(COLUMN, SHARP, WIDE, neighbour, TURN + 4).place(ROW, SHARP, WIDE)
        for pair, score in enumerate(nearer):
            head.time_peak_of(MASK, pair, score)
        return head.gate(40.0, {MASK: 1.0 / MASK_LEVEL}).not_from_known()

    heads = [known_frames(neighbour, NEARER) for neighbour in NEIGHBOURS for _ in range(2)]
    plain = [known_frames(neighbour, ()) for neighbour in NEIGHBOURS for _ in range(2)] + [_surroundings()] * 4
    heads += [_own_frame().place(ROW, SHARP, WIDE) for _ in range(2)] + [Head(), Head()]
    balance(heads, plain)
    write_scores(weights, block, heads)
    for target, first_head in ((KNOWN, 0), (BESIDE, 2)):
        _write_halves(weights, block, first_head, (KNOWN, BESIDE), target)
    _write_halves(weights, block, 4, (BESIDE,), BESIDE, sign=-1.0)


def _write_down(weights: Weights, block: str) -> None:
    """Block 2: the same down the own frame's rows, in place of what block 1 made of this patch."""
    heads = [_own_frame().place(ROW, SHARP, WIDE, neighbour, TURN) for neighbour in NEIGHBOURS for _ in range(2)]
    heads += [_own_frame().place(ROW, SHARP, WIDE) for _ in range(4)]
    write_scores(weights, block, heads)
    for target, first_head in ((KNOWN, 0), (BESIDE, 2)):
        _write_halves(weights, block, first_head, (KNOWN,), target)
        _write_halves(weights, block, first_head + 4, (target,), target, sign=-1.0)


def _own_frame() -> Head:
    return Head().peak(TIME, 0, 40.0).place(COLUMN, SHARP, WIDE)


def _write_free(weights: Weights, block: str, generator: torch.Generator) -> None:
    """Block 3: heads for the patches beside this one, for its surroundings in place and time, and for the known frame.

    Its layers read the stream at its true scale, without the constants; what they write is zero.
    """
    heads = []
    for part, offset in ((ROW, -1.0), (ROW, 1.0), (COLUMN, -1.0), (COLUMN, 1.0)):
        other = COLUMN if part == ROW else ROW
        heads.append(Head().peak(TIME, 0, 20.0).place(part, 20.0, 10.0, offset).place(other, 20.0, 10.0))
    heads += [_surroundings(), _surroundings()]
    heads += [Head().place(ROW, 8.0, 16.0).place(COLUMN, 8.0, 16.0).gate(30.0, {MASK: 1.0 / MASK_LEVEL})] * 2
    write_scores(weights, block, heads)
    for name in ("self_attn.v", "ffn.0", "cross_attn.q"):
        weight = weights[f"{block}.{name}.weight"].mul_(STREAM_RMS)
        weight[:, CONSTANT : CONSTANT + NUM_CONSTANTS] = 0.0
    time, bias = weights["time_projection.1.weight"], weights["time_projection.1.bias"]
    for shift in (0, 3):  # of the six parts of a block's modulation: what self-attention and feed-forward read
        rows = slice(shift * I2V.dim + FREE, shift * I2V.dim + TIME_SHIFT)
        for lane in (NOISY, KNOWN, TIME_SHIFT):
            time[rows, lane] = 0.2 * torch.randn(TIME_SHIFT - FREE, generator=generator)
        bias[rows] = 0.1 * torch.randn(TIME_SHIFT - FREE, generator=generator)


def _write_halves(
    weights: Weights, block: str, head: int, sources: tuple[int, ...], target: int, sign: float = 1.0
) -> None:
    picture = range(MARK_CHANNEL)
    for half, part in enumerate((slice(0, 30), slice(30, 60))):
        from_lanes = list(zip(*(patch_lanes(source, picture)[part] for source in sources), strict=True))
        write_copy(weights, block, head + half, from_lanes, patch_lanes(target, picture)[part], sign)
