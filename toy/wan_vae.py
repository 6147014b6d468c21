"""Writes a trained `LinearCodec` into the Wan2.1 VAE's layout, exactly up to the VAE's own normalisations.

The residual branches say nothing yet; toy/training/train_decoder.py trains those of the decoder.

Two facts make the VAE's nonlinear heads pass a linear signal: silu(a) - silu(-a) = a, so features travel in pairs of
opposite sign; and RMS norm over channels barely moves where one channel is a large constant.
"""

import torch

from . import layout
from .initial_weights import fresh_weights
from .linear_codec import DECODER_FEATURES, ENCODER_FEATURES, LinearCodec
from .sizes import PICTURE_CHANNELS, VAE_2_1

Tensors = dict[str, torch.Tensor]
CURRENT_FRAME = -1  # the last temporal tap of a causal convolution
BORDER_MARK = 2.0
NORM_MARGIN = 8.0
_WAN_MEAN = [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508] + [
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
]
_WAN_STD = [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743] + [
    3.2687,
    2.1526,
    2.8652,
    1.5579,
    1.6382,
    1.1253,
    2.8251,
    1.9160,
]


class LatentSpace:
    """The transformers' latents: the codec's, turned to their principal axes and scaled towards one, plus the mark.

    Axes keep some of their spread (the square root of it), so that noise drowns fine detail first, as it does in
    pictures. Channel 15 carries no picture: it is BORDER_MARK on the left and upper border, -BORDER_MARK on the
    right and lower one, 0 inside. A Wan transformer sees relative positions only; this is how it can know the centre.
    """

    wan_mean, wan_std = torch.tensor(_WAN_MEAN), torch.tensor(_WAN_STD)

    def __init__(self, codec: LinearCodec, matrix: torch.Tensor, offset: torch.Tensor) -> None:
        self.codec, self.matrix, self.offset = codec, matrix, offset

    @classmethod
    @torch.no_grad()
    def measure(cls, codec: LinearCodec, clips: torch.Tensor) -> "LatentSpace":
        """From clips [batch, frames, 3, height, width] in [-1, 1]."""
        latents = codec.encode(clips).permute(0, 1, 3, 4, 2).reshape(-1, PICTURE_CHANNELS).double()
        mean = latents.mean(dim=0)
        variance, axes = torch.linalg.eigh(torch.cov(latents.T))
        spread = variance.flip(0).sqrt()
        scale = spread.pow(-0.5)
        scale = scale / ((spread * scale).pow(2).mean()).sqrt()
        matrix = scale[:, None] * axes.flip(1).T
        return cls(codec, matrix.float(), -(matrix @ mean).float())

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames [frames, 3, height, width] in [-1, 1] to [16, latent frames, height/8, width/8]."""
        latents = torch.einsum("dc,tchw->dthw", self.matrix, self.codec.encode(frames[None])[0])
        mark = torch.zeros(1, *latents.shape[1:])
        mark[..., 0] += BORDER_MARK
        mark[..., -1] -= BORDER_MARK
        mark[..., 0, :] += BORDER_MARK
        mark[..., -1, :] -= BORDER_MARK
        return torch.cat([latents + self.offset[:, None, None, None], mark])


@torch.no_grad()
def vae_from_linear_codec(space: LatentSpace, clips: torch.Tensor, seed: int) -> Tensors:
    """Float32 tensors of `layout.vae(VAE_2_1)` that compute what `space` does.

    `clips` [batch, frames, 3, height, width] in [-1, 1] tell how long the feature vectors are; the constants that
    steady the two heads' norms are several times that.
    """
    encoder_level = NORM_MARGIN * _length(space.codec.encoder_features(clips))
    decoder_level = NORM_MARGIN * _length(space.codec.decoder_features(space.codec.encode(clips)))
    codec, weights = space.codec, silent_vae(seed)
    _write_encoder(weights, codec, encoder_level)
    _write_decoder(weights, codec, decoder_level)
    _write_latent_map(weights, space)
    return {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}


def silent_vae(seed: int) -> Tensors:
    """Fresh weights for the VAE whose residual branches end in zeros."""
    weights = fresh_weights(layout.vae(VAE_2_1), seed)
    for name in weights:
        if name.endswith(("residual.6.weight", "middle.1.proj.weight")):
            weights[name].zero_()
    return weights


def latent_space(weights: Tensors) -> LatentSpace:
    """The small linear encoder that a VAE file holds: `vae_from_linear_codec` backwards. Its decoder is not read."""
    w = {name: tensor.float() for name, tensor in weights.items() if name.startswith(("encoder", "conv1"))}
    codec, channels = LinearCodec(), PICTURE_CHANNELS
    features = ENCODER_FEATURES
    with torch.no_grad():
        for layer, name, flat in (
            (codec.enc_in, "conv1", lambda t: t[:, :, CURRENT_FRAME]),
            (codec.widen[0], "downsamples.3.shortcut", lambda t: t[..., 0]),
            (codec.widen[1], "downsamples.6.shortcut", lambda t: t[..., 0]),
            (codec.down[0], "downsamples.2.resample.1", lambda t: t),
            (codec.down[1], "downsamples.5.resample.1", lambda t: t),
            (codec.halve_rate[0], "downsamples.5.time_conv", lambda t: t),
            (codec.down[2], "downsamples.8.resample.1", lambda t: t[:features]),
            (codec.halve_rate[1], "downsamples.8.time_conv", lambda t: t[:features, :features]),
            (codec.enc_out, "head.2", lambda t: t[:channels, :features, CURRENT_FRAME]),
        ):
            layer.weight.copy_(flat(w[f"encoder.{name}.weight"]))
            layer.bias.copy_(w[f"encoder.{name}.bias"][: len(layer.bias)])
    std, mean = LatentSpace.wan_std, LatentSpace.wan_mean
    matrix = (w["conv1.weight"][:16, :16, 0, 0, 0] / std[:, None])[:channels, :channels]
    return LatentSpace(codec, matrix, ((w["conv1.bias"][:16] - mean) / std)[:channels])


def _length(features: torch.Tensor) -> float:
    """Root mean square length of [batch, frames, channels, height, width] vectors, counted twice as pairs are."""
    return (2 * features.pow(2).sum(dim=2)).mean().sqrt().item()


def _write_latent_map(weights: Tensors, space: LatentSpace) -> None:
    """From the codec's latents to those whose mean and scale ComfyUI assumes for Wan2.1, and back."""
    std, mean = space.wan_std, space.wan_mean
    to_space, offset = torch.zeros(16, 16), torch.zeros(16)
    to_space[:15, :15], to_space[15, 15] = space.matrix, 1.0
    offset[:15] = space.offset
    inverse = torch.zeros(16, 16)
    inverse[:15, :15] = torch.linalg.inv(space.matrix.double()).float()
    weights["conv1.weight"].zero_()[:16, :16, 0, 0, 0] = std[:, None] * to_space
    weights["conv1.bias"].zero_()[:16] = std * offset + mean
    weights["conv2.weight"][:, :, 0, 0, 0] = inverse / std
    weights["conv2.bias"] = -inverse @ (mean / std + offset)


def _write_encoder(weights: Tensors, codec: LinearCodec, level: float) -> None:
    _current_frame_only(weights, "encoder.conv1", codec.enc_in)
    for index, block in ((0, 3), (1, 6)):
        _pointwise(weights, f"encoder.downsamples.{block}.shortcut", codec.widen[index])
    for index, resample in enumerate((2, 5)):
        weights[f"encoder.downsamples.{resample}.resample.1.weight"] = codec.down[index].weight
        weights[f"encoder.downsamples.{resample}.resample.1.bias"] = codec.down[index].bias
    weights["encoder.downsamples.5.time_conv.weight"] = codec.halve_rate[0].weight
    weights["encoder.downsamples.5.time_conv.bias"] = codec.halve_rate[0].bias
    _paired(weights, "encoder.downsamples.8.resample.1", codec.down[2].weight, codec.down[2].bias, level)
    time_conv = weights["encoder.downsamples.8.time_conv.weight"].zero_()
    features = ENCODER_FEATURES
    time_conv[:features, :features] = codec.halve_rate[1].weight
    time_conv[features : 2 * features, :features] = -codec.halve_rate[1].weight
    time_conv[2 * features, 2 * features, CURRENT_FRAME] = 1.0
    bias = codec.halve_rate[1].bias
    weights["encoder.downsamples.8.time_conv.bias"][: 2 * features] = torch.cat([bias, -bias])
    weights["encoder.head.0.gamma"].fill_(level / weights["encoder.head.0.gamma"].shape[0] ** 0.5)
    head = weights["encoder.head.2.weight"].zero_()
    channels = PICTURE_CHANNELS
    head[:channels, :features, CURRENT_FRAME] = codec.enc_out.weight
    head[:channels, features : 2 * features, CURRENT_FRAME] = -codec.enc_out.weight
    weights["encoder.head.2.bias"][:channels] = codec.enc_out.bias
    mark = head[channels, 2 * features, CURRENT_FRAME]  # the constant channel, which the zero padding cuts off
    mark[1, 0], mark[1, 2] = -BORDER_MARK / level, BORDER_MARK / level
    mark[0, 1], mark[2, 1] = -BORDER_MARK / level, BORDER_MARK / level


def _write_decoder(weights: Tensors, codec: LinearCodec, level: float) -> None:
    first = weights["decoder.conv1.weight"].zero_()
    first[:, :PICTURE_CHANNELS, CURRENT_FRAME] = codec.dec_in.weight
    weights["decoder.conv1.bias"] = codec.dec_in.bias
    _pointwise(weights, "decoder.upsamples.4.shortcut", codec.dec_widen)
    for index, resample in enumerate((3, 7)):
        name = f"decoder.upsamples.{resample}"
        weights[f"{name}.time_conv.weight"].zero_()[:, :, CURRENT_FRAME] = codec.double_rate[index].weight
        weights[f"{name}.time_conv.bias"] = codec.double_rate[index].bias
        weights[f"{name}.resample.1.weight"] = codec.up[index].weight
        weights[f"{name}.resample.1.bias"] = codec.up[index].bias
    _paired(weights, "decoder.upsamples.11.resample.1", codec.up[2].weight, codec.up[2].bias, level)
    weights["decoder.head.0.gamma"].fill_(level / weights["decoder.head.0.gamma"].shape[0] ** 0.5)
    head = weights["decoder.head.2.weight"].zero_()
    head[:, :DECODER_FEATURES, CURRENT_FRAME] = codec.dec_out.weight
    head[:, DECODER_FEATURES : 2 * DECODER_FEATURES, CURRENT_FRAME] = -codec.dec_out.weight
    weights["decoder.head.2.bias"] = codec.dec_out.bias
    for block in (12, 13, 14):  # of full size: their branches, once trained, read features as loud as the constant
        weights[f"decoder.upsamples.{block}.residual.0.gamma"][: 2 * DECODER_FEATURES] = NORM_MARGIN


def _current_frame_only(weights: Tensors, name: str, layer: torch.nn.Conv2d) -> None:
    weights[f"{name}.weight"].zero_()[:, :, CURRENT_FRAME] = layer.weight
    weights[f"{name}.bias"] = layer.bias


def _pointwise(weights: Tensors, name: str, layer: torch.nn.Conv2d) -> None:
    weights[f"{name}.weight"] = layer.weight[..., None]
    weights[f"{name}.bias"] = layer.bias


def _paired(weights: Tensors, name: str, weight: torch.Tensor, bias: torch.Tensor, level: float) -> None:
    """Channels: the features, the features negated, then one constant `level`."""
    features = weight.shape[0]
    paired = weights[f"{name}.weight"].zero_()
    paired[:features], paired[features : 2 * features] = weight, -weight
    paired_bias = weights[f"{name}.bias"].zero_()
    paired_bias[: 2 * features] = torch.cat([bias, -bias])
    paired_bias[2 * features] = level
