"""Attention heads written down as wishes about their scores.

Scores that depend on relative position alone come from the biases of q and k: a pair of channels
(a cos wd, a sin wd) of q against (a, 0) of k scores a*a*cos(w (D - d)) under the rotary embedding, a peak where the
key is d = D away. Scores that depend on content come from single lanes of the residual stream.
"""

import math
from collections.abc import Sequence

import torch

from ..sizes import I2V
from .lanes import ANCHOR, KEY, MASK, MASK_LEVEL, STREAM_RMS

HEAD_DIM = I2V.dim // I2V.num_heads
TIME, ROW, COLUMN = 0, I2V.rotary_dims[0], I2V.rotary_dims[0] + I2V.rotary_dims[1]
GATE = ROW - 2  # the slowest pair of the time part: position hardly turns it

Weights = dict[str, torch.Tensor]


def frequency(part: int, pair: int) -> float:
    """Radians per token of a channel pair in the time, row or column part of a head."""
    width = I2V.rotary_dims[(TIME, ROW, COLUMN).index(part)]
    return 10000.0 ** (-2 * pair / width)


class Head:
    """The wanted scores of one head."""

    def __init__(self) -> None:
        self.q_bias, self.k_bias = torch.zeros(HEAD_DIM), torch.zeros(HEAD_DIM)
        self.q_reads: list[tuple[int, int, float]] = []  # channel, lane, weight
        self.k_reads: list[tuple[int, int, float]] = []

    def peak(self, part: int, pair: int, score: float, offset: float = 0.0, turn_lanes: int | None = None) -> "Head":
        """Add `score * cos(w (D - offset))`; `turn_lanes` hold cos - 1 and sin of a further offset."""
        channel, level, (cos, sin) = self._ask(part, pair, score, offset)
        self.k_bias[channel] += level
        if turn_lanes is not None:
            self.q_reads += [(channel, turn_lanes, cos), (channel, turn_lanes + 1, -sin)]
            self.q_reads += [(channel + 1, turn_lanes, sin), (channel + 1, turn_lanes + 1, cos)]
        return self

    def time_peak_of(self, lane: int, pair: int, score: float, offset: float = 0.0) -> "Head":
        """A peak in time that only keys have whose frame this lane, MASK or KEY, marks."""
        channel, level, _ = self._ask(TIME, pair, score, offset)
        self.k_reads.append((channel, lane, level / MASK_LEVEL))
        return self

    def _ask(self, part: int, pair: int, score: float, offset: float) -> tuple[int, float, tuple[float, float]]:
        """The query's side of a peak; returns its channel, its level, and that turned by the offset: cos and sin."""
        level, turn, channel = math.sqrt(score * math.sqrt(HEAD_DIM)), offset * frequency(part, pair), part + 2 * pair
        turned = level * math.cos(turn), level * math.sin(turn)
        self.q_bias[channel] += turned[0]
        self.q_bias[channel + 1] += turned[1]
        return channel, level, turned

    def not_for_known(self, part: int, pair: int) -> "Head":
        """Take the peak of this pair away from keys of known frames."""
        channel = part + 2 * pair
        self.k_reads.append((channel, MASK, -self.k_bias[channel].item() / MASK_LEVEL))
        return self

    def place(self, part: int, sharp: float, wide: float, offset: float = 0.0, turn_lanes: int | None = None) -> "Head":
        """Peak `offset` rows or columns away, from the same one or from where `turn_lanes` (4 of them) point."""
        for pair, score in enumerate((sharp, wide)):
            self.peak(part, pair, score, offset, None if turn_lanes is None else turn_lanes + 2 * pair)
        return self

    def gate(self, score: float, lanes: dict[int, float]) -> "Head":
        """Add `score` times the weighted sum of the key's lanes."""
        level = math.sqrt(score * math.sqrt(HEAD_DIM))
        self.q_bias[GATE] += level
        self.k_reads += [(GATE, lane, level * weight) for lane, weight in lanes.items()]
        return self

    def louder(self, lane: int, score: float) -> "Head":
        """Add `score` through the gate to keys whose frame this lane, MASK or KEY, marks."""
        self.k_reads.append((GATE, lane, score * math.sqrt(HEAD_DIM) / self.q_bias[GATE].item() / MASK_LEVEL))
        return self

    def not_from_known(self) -> "Head":
        """Turn the gate and all peaks in time round for queries of known frames."""
        for channel in range(TIME, ROW):
            self.q_reads.append((channel, MASK, -2 * self.q_bias[channel].item() / MASK_LEVEL))
        return self


def balance(heads: Sequence[Head], like: Sequence[Head]) -> None:
    """Make the keys of the first frame, of a keyframe and of others as long, against each other, as those of `like`.

    A norm divides the keys of all heads by their common length: what one head reads would weaken the others. The last
    head gets a channel for that, which its queries leave at zero.
    """
    assert not heads[-1].q_bias[ROW]
    marks = (None, MASK, KEY)
    lengths, wanted = ([_key_length(some, mark) for mark in marks] for some in (heads, like))
    scale = max(length / share for length, share in zip(lengths, wanted, strict=True))
    plain, *marked = (
        math.sqrt(max(0.0, scale * share - length)) for length, share in zip(lengths, wanted, strict=True)
    )
    heads[-1].k_bias[ROW] = plain
    heads[-1].k_reads += [
        (ROW, lane, (level - plain) / MASK_LEVEL) for lane, level in zip((MASK, KEY), marked, strict=True)
    ]


def _key_length(heads: Sequence[Head], marked: int | None) -> float:
    """The squared length of a key whose frame has this lane, MASK or KEY."""
    length = 0.0
    for head in heads:
        key = head.k_bias.clone()
        for channel, lane, level in head.k_reads:
            key[channel] += level * MASK_LEVEL * (lane == marked)
        length += key.pow(2).sum().item()
    return length


def write_scores(weights: Weights, block: str, heads: list[Head]) -> None:
    """Write q and k. The gains of their norms restore the wanted lengths."""
    for part in "qk":
        weight = weights[f"{block}.self_attn.{part}.weight"].zero_()
        for index, head in enumerate(heads):
            for channel, lane, level in getattr(head, f"{part}_reads"):
                weight[index * HEAD_DIM + channel, lane] += level * STREAM_RMS
                weight[index * HEAD_DIM + channel, ANCHOR] -= level * STREAM_RMS
        bias = torch.cat([getattr(head, f"{part}_bias") for head in heads])
        weights[f"{block}.self_attn.{part}.bias"] = bias
        weights[f"{block}.self_attn.norm_{part}.weight"].fill_(bias.pow(2).mean().sqrt().item())


def write_copy(
    weights: Weights,
    block: str,
    head: int,
    from_lanes: Sequence[Sequence[int]],
    to_lanes: Sequence[int],
    sign: float = 1.0,
) -> None:
    """Let `head` carry the sum of some lanes to each of `to_lanes` (at most HEAD_DIM), unchanged or negated."""
    value, out = weights[f"{block}.self_attn.v.weight"], weights[f"{block}.self_attn.o.weight"]
    rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    value[rows], out[:, rows] = 0.0, 0.0
    for channel, (sources, target) in enumerate(zip(from_lanes, to_lanes, strict=True)):
        value[head * HEAD_DIM + channel, list(sources)] = STREAM_RMS
        value[head * HEAD_DIM + channel, ANCHOR] = -STREAM_RMS * len(sources)
        out[target, head * HEAD_DIM + channel] = sign
