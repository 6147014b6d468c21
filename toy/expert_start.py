"""Where the experts' training begins: weights that already follow the words "pan left".

Minutes of processor time do not find such a circuit from random numbers, so it is written down where it can be, and
fitted by least squares or a small regression where it cannot (toy/expert_fits.py):

- Block 0 finds out where a token is and what is asked. Three heads measure how far the known frame is in time, two
  the place between the borders that the VAE marks, cross-attention names the move, and the feed-forward layer
  turns all of it into the place of the source: where this patch was in the known frame.
- Block 1 copies the patch at the source, and the patch beside it, from the known frame. A pan is past a whole patch
  by one of four parts, so four linear maps a direction make the new patch of the two: the feed-forward layer of
  block 1 holds those of left and right, that of block 2 those of up and down, each switched on by its move and phase.
- The head answers velocity = c noisy - d copied, with c and d of the noise level through the time embedding.

Large constants in the residual stream keep the layer norms' scale steady. Training then repairs what this leaves:
what comes in at the border, zooms, how far to trust the noisy patch.
"""

import math

import torch

from . import layout
from .attention_heads import COLUMN, HEAD_DIM, ROW, TIME, Head, Weights, frequency, write_copy, write_scores
from .initial_weights import fresh_weights
from .lanes import (
    ACROSS,
    BESIDE,
    CLOCKS,
    CONSTANT,
    CONSTANT_LEVEL,
    DOWN,
    KNOWN,
    MASK,
    MASK_LEVEL,
    NOISY,
    NUM_CONSTANTS,
    STREAM_RMS,
    TURN_BESIDE,
    TURN_COPIED,
)
from .sizes import I2V

MARK_CHANNEL = 15
_CLOCK_CENTRES = (3.0, 9.0, 15.0)  # latent frames


@torch.no_grad()
def skeleton(grey: torch.Tensor, seed: int) -> Weights:
    """Everything that can be written down; the fits come after. `grey` [16]: the latents of an unknown frame."""
    weights = fresh_weights(layout.expert(I2V), seed)
    _write_patch_embedding(weights, grey)
    for name in weights:
        if name.endswith((".o.weight", "cross_attn.q.weight", "ffn.2.weight", "time_projection.1.weight")):
            weights[name].zero_()
        if name.endswith("blocks.0.modulation") or name.endswith(".modulation"):
            weights[name].zero_()
    for index in range(I2V.num_layers):
        weights[f"blocks.{index}.modulation"][:, (2, 5)] = 1.0
    _write_where(weights, "blocks.0")
    _write_source(weights, "blocks.1")
    head = weights["head.head.weight"].zero_()
    for lane in range(64):
        head[lane, NOISY + lane], head[lane, KNOWN + lane] = STREAM_RMS, -STREAM_RMS
    return weights


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
    patch[MASK, 16:20] = MASK_LEVEL / 16
    bias[CONSTANT : CONSTANT + NUM_CONSTANTS] = CONSTANT_LEVEL * torch.tensor([1.0, -1.0] * (NUM_CONSTANTS // 2))


def _border_lanes(axis: str, ends: str) -> dict[int, float]:
    """Weights that read the border marks: `ends` "either" gives 1 at both ends of the axis, "sign" 1 and -1."""
    near, far = ((0, 2), (1, 3)) if axis == "across" else ((0, 1), (2, 3))
    far_sign = -1.0 if ends == "either" else 1.0
    marks = {KNOWN + 16 * latent + MARK_CHANNEL: 0.25 for latent in near}
    return marks | {KNOWN + 16 * latent + MARK_CHANNEL: 0.25 * far_sign for latent in far}


def _write_where(weights: Weights, block: str) -> None:
    """Block 0's heads: three clocks, two rulers, three spare ones."""
    heads = []
    slow, sink = 24.0, 12.0
    turn = frequency(TIME, 2)
    for centre in _CLOCK_CENTRES:
        own_frame = slow * math.cos(10 * turn) + 2 * sink
        score = own_frame - slow * math.cos((10 + centre) * turn)
        head = Head().peak(TIME, 0, sink).peak(TIME, 1, sink).peak(TIME, 2, slow, offset=10.0)
        head.not_for_known(TIME, 0).not_for_known(TIME, 1).gate(score, {MASK: 1.0 / MASK_LEVEL})
        heads.append(head)
    heads.append(Head().gate(30.0, _border_lanes("across", "either")).peak(COLUMN, 1, 5.0))
    heads.append(Head().gate(30.0, _border_lanes("down", "either")).peak(ROW, 1, 5.0))
    heads += [Head().place(8.0, 16.0).peak(TIME, 0, 4.0) for _ in range(I2V.num_heads - len(heads))]
    write_scores(weights, block, heads, noise=0.0)
    value, out = weights[f"{block}.self_attn.v.weight"], weights[f"{block}.self_attn.o.weight"]
    readings = [{MASK: 1.0 / MASK_LEVEL}] * 3 + [_border_lanes("across", "sign"), _border_lanes("down", "sign")]
    for index, (reading, lane_out) in enumerate(zip(readings, (*CLOCKS, ACROSS, DOWN), strict=True)):
        value[index * HEAD_DIM : (index + 1) * HEAD_DIM] = 0.0
        for lane, weight in reading.items():
            value[index * HEAD_DIM, lane] = weight * STREAM_RMS
        out[lane_out, index * HEAD_DIM] = 4.0


def _write_source(weights: Weights, block: str) -> None:
    """Block 1's heads: the patch at the source in two halves, the patch beside it in two halves, spare ones."""
    heads = []
    for turn_lanes in (TURN_COPIED, TURN_COPIED, TURN_BESIDE, TURN_BESIDE):
        head = Head().place(9.0, 64.0, turn_lanes).gate(40.0, {MASK: 1.0 / MASK_LEVEL})
        heads.append(head.not_from_known())
    heads += [Head().place(8.0, 16.0).peak(TIME, 0, 4.0) for _ in range(I2V.num_heads - len(heads))]
    write_scores(weights, block, heads, noise=0.0)
    picture = range(MARK_CHANNEL)
    source = patch_lanes(KNOWN, picture)
    for half, part in enumerate((slice(0, 30), slice(30, 60))):
        write_copy(weights, block, half, source[part], source[part])
        write_copy(weights, block, 2 + half, source[part], patch_lanes(BESIDE, picture)[part])
