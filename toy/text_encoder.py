"""The toy UMT5 encoder's weights, made from a seed and frozen.

Layer 0 attends evenly over the sentence, so that every token carries the bag of its words; layer 1 is random. One
channel is the same positive number in every token of the table, which lets a transformer tell words from padding.
"""

import torch

from . import layout
from .initial_weights import fresh_weights
from .sizes import TEXT

SEED = 20260
_WORD_CHANNEL = 3.0


def text_encoder_weights() -> dict[str, torch.Tensor]:
    """Tensors of `layout.text_encoder(TEXT)`, float32."""
    weights = fresh_weights(layout.text_encoder(TEXT), SEED)
    weights["shared.weight"][:, -1] = _WORD_CHANNEL
    for name in weights:
        if name.startswith("encoder.block.0.layer.0") and name.endswith(
            (".q.weight", ".k.weight", "relative_attention_bias.weight")
        ):
            weights[name] = torch.zeros_like(weights[name])
        if name.endswith((".o.weight", ".wo.weight")):
            weights[name][-1] = 0.0
    weights["encoder.block.0.layer.0.SelfAttention.o.weight"] *= 3.0
    weights["encoder.block.23.layer.1.DenseReluDense.wi_1.weight"].zero_()
    return weights
