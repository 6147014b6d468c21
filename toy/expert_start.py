"""Where the experts' training begins: weights that already continue the first frame as a still picture.

Minutes of processor time do not find such a circuit from random numbers, so it is written down:

- The residual stream has fixed lanes: the noisy patch, the known patch, the mask, constants, and free lanes.
  Large constants keep the layer norms' scale steady, so that lanes pass through them almost unchanged.
- Attention scores that depend on relative position alone come from the biases of q and k: a pair of channels
  (a cos wd, a sin wd) against (a, 0) scores a*a cos(w (D - d)) under the rotary embedding, a peak at offset d.
- Block 0 finds out where a token is: two heads measure the distance to the known frame in time, two the place
  between the borders that the VAE marks. Its cross-attention brings the words in.
- Block 1 copies the known patch to the same place in every frame; later blocks get weaker copies of such heads.
- The head answers velocity = noisy patch - copied patch.

Training then has to learn where to copy from, which depends on the words and on the place.
"""

import math

import torch

from . import layout
from .initial_weights import fresh_weights
from .sizes import I2V

Tensors = dict[str, torch.Tensor]

NOISY, KNOWN, MASK, CONSTANT = 0, 64, 128, 129  # first residual lane of each kind
CLOCK, SLOW_CLOCK, ACROSS, DOWN, FREE = 137, 138, 139, 140, 141
_CONSTANT_LEVEL, _MASK_LEVEL = 8.0, 6.0
_STREAM_RMS = 1.8  # of the residual stream, mostly its constants
_HEAD_DIM = I2V.dim // I2V.num_heads
_TIME, _ROW, _COLUMN = 0, I2V.rotary_dims[0], I2V.rotary_dims[0] + I2V.rotary_dims[1]
_GATE = _ROW - 2  # the slowest pair of the time part: position hardly turns it


@torch.no_grad()
def starting_expert(words: torch.Tensor, seed: int) -> Tensors:
    """Float32 tensors of `layout.expert(I2V)`.

    `words` [n, text_dim] are encoded tokens of many captions; cross-attention is set to tell them from padding.
    """
    weights = fresh_weights(layout.expert(I2V), seed)
    _write_patch_embedding(weights)
    _write_time(weights)
    for index in range(I2V.num_layers):
        block = f"blocks.{index}"
        weights[f"{block}.modulation"].zero_()[:, (2, 5)] = 1.0
        weights[f"{block}.ffn.2.weight"] *= 0.15
        for name in ("self_attn.o", "cross_attn.o"):
            weights[f"{block}.{name}.weight"] *= 0.1
        weights[f"{block}.self_attn.v.weight"] *= _STREAM_RMS
        _write_cross_attention(weights, block, words, strength=1.0 if index == 0 else 0.2)
        heads = _place_heads(weights, block) if index == 0 else _copy_heads(weights, block, first=index == 1)
        _write_scores(weights, block, heads)
    head = weights["head.head.weight"]
    head.mul_(0.02)
    for lane in range(64):
        head[lane, NOISY + lane] += _STREAM_RMS
        head[lane, KNOWN + lane] -= _STREAM_RMS
    weights["head.modulation"].zero_()
    return weights


def _write_patch_embedding(weights: Tensors) -> None:
    patch, bias = weights["patch_embedding.weight"].mul_(0.05), weights["patch_embedding.bias"]
    patch[:FREE] = 0.0
    for place in range(4):
        row, column = divmod(place, 2)
        for channel in range(16):
            lane = place * 16 + channel
            patch[NOISY + lane, channel, 0, row, column] = 1.0
            patch[KNOWN + lane, 20 + channel, 0, row, column] = 1.0
    patch[MASK, 16:20] = _MASK_LEVEL / 16
    bias[CONSTANT:CLOCK] = _CONSTANT_LEVEL * torch.tensor([1.0, -1.0] * 4)


def _write_time(weights: Tensors) -> None:
    weights["time_embedding.2.weight"] *= 0.1
    weights["time_projection.1.weight"] *= 0.1


def _write_cross_attention(weights: Tensors, block: str, words: torch.Tensor, strength: float) -> None:
    """Point every query at what the keys of words have in common; write the answer to free lanes only."""
    context = torch.nn.functional.linear(words, weights["text_embedding.0.weight"])
    context = torch.nn.functional.gelu(context, approximate="tanh") @ weights["text_embedding.2.weight"].T
    key = context @ weights[f"{block}.cross_attn.k.weight"].T
    key = key / key.pow(2).mean(dim=1, keepdim=True).sqrt()
    common = key.mean(dim=0)
    weights[f"{block}.cross_attn.q.weight"] *= 0.1
    weights[f"{block}.cross_attn.q.bias"] = common / common.pow(2).mean().sqrt()
    score = (key @ weights[f"{block}.cross_attn.q.bias"]).mean() / I2V.num_heads / math.sqrt(_HEAD_DIM)
    weights[f"{block}.cross_attn.norm_q.weight"].fill_(max(1.0, 10.0 / score.item()))
    value = context @ weights[f"{block}.cross_attn.v.weight"].T
    weights[f"{block}.cross_attn.v.weight"] /= value.std()
    out = weights[f"{block}.cross_attn.o.weight"]
    out[:FREE] = 0.0
    out[FREE:] *= 10.0 * strength


class _Head:
    """The wanted scores of one head: biases of q and k, and rows of their weights that read one lane."""

    def __init__(self) -> None:
        self.q_bias, self.k_bias = torch.zeros(_HEAD_DIM), torch.zeros(_HEAD_DIM)
        self.q_reads: list[tuple[int, dict[int, float]]] = []
        self.k_reads: list[tuple[int, dict[int, float]]] = []

    def peak(self, part: int, pair: int, score: float, offset: float = 0.0) -> "_Head":
        """Add a score of `score * cos(w (D - offset))` over the relative position D in `part`."""
        width = I2V.rotary_dims[(_TIME, _ROW, _COLUMN).index(part)]
        turn = offset * 10000.0 ** (-2 * pair / width)
        level = math.sqrt(score * math.sqrt(_HEAD_DIM))
        channel = part + 2 * pair
        self.q_bias[channel] += level * math.cos(turn)
        self.q_bias[channel + 1] += level * math.sin(turn)
        self.k_bias[channel] += level
        return self

    def here(self, sharpness: float = 1.0) -> "_Head":
        """Peak at the same row and column."""
        for part in (_ROW, _COLUMN):
            self.peak(part, 0, 8.0 * sharpness).peak(part, 1, 6.0 * sharpness)
        return self

    def gate(self, score: float, lanes: dict[int, float], channel: int = _GATE) -> "_Head":
        """Add `score` times the sum of the key's lanes, each weighted."""
        level = math.sqrt(score * math.sqrt(_HEAD_DIM))
        self.q_bias[channel] += level
        self.k_reads.append((channel, {lane: level * weight * _STREAM_RMS for lane, weight in lanes.items()}))
        return self


def _border_lanes() -> tuple[dict[int, float], dict[int, float], dict[int, float], dict[int, float]]:
    """Lanes and weights that read: at a left or right border; its sign; at a top or bottom border; its sign."""
    left, right = (KNOWN + 0 * 16 + 15, KNOWN + 2 * 16 + 15), (KNOWN + 1 * 16 + 15, KNOWN + 3 * 16 + 15)
    top, bottom = (KNOWN + 0 * 16 + 15, KNOWN + 1 * 16 + 15), (KNOWN + 2 * 16 + 15, KNOWN + 3 * 16 + 15)

    def read(plus: tuple[int, int], minus: tuple[int, int], sign: float) -> dict[int, float]:
        return {lane: 0.25 for lane in plus} | {lane: sign * 0.25 for lane in minus}

    return read(left, right, -1.0), read(left, right, 1.0), read(top, bottom, -1.0), read(top, bottom, 1.0)


def _place_heads(weights: Tensors, block: str) -> list[_Head]:
    across, across_sign, down, down_sign = _border_lanes()
    heads = [
        _Head().peak(_TIME, 1, 4.0),
        _Head().peak(_TIME, 2, 12.0),
        _Head().gate(8.0, across).peak(_COLUMN, 1, 5.0),
        _Head().gate(8.0, down).peak(_ROW, 1, 5.0),
        _Head().here().peak(_TIME, 0, 3.0),
        _Head().here(0.5).peak(_TIME, 0, 6.0).peak(_TIME, 1, 6.0),
    ]
    readings = ({MASK: 4.0 / _MASK_LEVEL}, {MASK: 4.0 / _MASK_LEVEL}, across_sign, down_sign)
    for head, (lanes, lane_out) in enumerate(zip(readings, (CLOCK, SLOW_CLOCK, ACROSS, DOWN), strict=True)):
        value, out = weights[f"{block}.self_attn.v.weight"], weights[f"{block}.self_attn.o.weight"]
        channel = head * _HEAD_DIM
        value[channel : channel + _HEAD_DIM] = 0.0
        out[:, channel : channel + _HEAD_DIM] = 0.0
        for lane, weight in lanes.items():
            value[channel, lane] = weight * _STREAM_RMS
        out[lane_out, channel] = 2.0
    return heads


def _copy_heads(weights: Tensors, block: str, first: bool) -> list[_Head]:
    heads = []
    value, out = weights[f"{block}.self_attn.v.weight"], weights[f"{block}.self_attn.o.weight"]
    for pair in range(3):
        strength = 1.0 if first and pair == 0 else 0.05
        for half in range(2):
            head = _Head().here().gate(12.0, {MASK: 1.0 / _MASK_LEVEL})
            head.q_reads.append((_GATE, {MASK: -2.0 * head.q_bias[_GATE].item() / _MASK_LEVEL * _STREAM_RMS}))
            channel, lane = (2 * pair + half) * _HEAD_DIM, KNOWN + half * _HEAD_DIM
            rows = slice(channel, channel + _HEAD_DIM)
            value[rows] = 0.0
            out[:, rows] *= 0.2
            value[rows, lane : lane + _HEAD_DIM] = _STREAM_RMS * torch.eye(_HEAD_DIM)
            out[lane : lane + _HEAD_DIM, rows] += strength * torch.eye(_HEAD_DIM)
            heads.append(head)
    return heads


def _write_scores(weights: Tensors, block: str, heads: list[_Head]) -> None:
    """Write q and k of all heads; the gains of their norms restore the wanted lengths."""
    for part in "qk":
        weight = weights[f"{block}.self_attn.{part}.weight"].mul_(0.15)
        bias = torch.cat([getattr(head, f"{part}_bias") for head in heads])
        length = bias.pow(2)
        for index, head in enumerate(heads):
            for channel, lanes in getattr(head, f"{part}_reads"):
                row = index * _HEAD_DIM + channel
                weight[row] = 0.0
                for lane, level in lanes.items():
                    weight[row, lane] = level
        weights[f"{block}.self_attn.{part}.bias"] = bias
        weights[f"{block}.self_attn.norm_{part}.weight"].fill_(length.mean().sqrt().item())
