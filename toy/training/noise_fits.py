"""How far the experts trust the noisy patch and how far the copied one at each noise level, by least squares."""

import torch
import torch.nn.functional as F

from ..sizes import I2V
from . import expert_training as training
from .attention_heads import Weights
from .lanes import KNOWN, NOISY, STREAM_RMS, TIME_SHIFT

WELL_COPIED = 0.7  # the share of latents that the gains are fitted on; the rest came in at the border


def fit_noise_gains(weights: Weights, batches: list[training.Batch], low: float, high: float) -> None:
    """Least squares: how much of the noisy patch and of the copied one make the velocity between two sigmas."""
    copied, latents = _copied_patches(weights, batches)
    power, cross, own = ((a * b).mean().double() for a, b in ((latents, latents), (latents, copied), (copied, copied)))
    sigma = torch.linspace(low, high, 400, dtype=torch.double)
    keep = 1 - sigma
    noisy_noisy, noisy_copied = keep**2 * power + sigma**2, keep * cross
    matrix = torch.stack([noisy_noisy, noisy_copied, noisy_copied, own.expand_as(sigma)], dim=1).view(-1, 2, 2)
    wanted = torch.stack([sigma - keep * power, -cross.expand_as(sigma)], dim=1)
    gains = torch.linalg.solve(matrix, wanted)
    noisy_gain, copied_gain = gains[:, 0], -gains[:, 1]
    features = _time_features(weights, sigma.float() * 1000).double()
    features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    targets = torch.stack([noisy_gain - 1, copied_gain - 1, noisy_gain - copied_gain], dim=1)
    ridge = 1e-5 * len(sigma) * torch.eye(features.shape[1], dtype=torch.double)
    solution = torch.linalg.solve(features.T @ features + ridge, features.T @ targets).float()
    weight, bias = weights["time_embedding.2.weight"].zero_(), weights["time_embedding.2.bias"].zero_()
    for lanes, column in ((slice(NOISY, NOISY + 64), 0), (slice(KNOWN, KNOWN + 64), 1), (TIME_SHIFT, 2)):
        weight[lanes], bias[lanes] = solution[:-1, column], solution[-1, column]
    weights["head.head.weight"][:, TIME_SHIFT] = -STREAM_RMS


@torch.no_grad()
def _time_features(weights: Weights, timestep: torch.Tensor) -> torch.Tensor:
    """The hidden layer of the time embedding, its fastest sinusoids silenced (in place) so that it is smooth."""
    half = I2V.freq_dim // 2
    first = weights["time_embedding.0.weight"]
    rates = 10000.0 ** (-torch.arange(half) / half)
    first[:, :half] *= (rates < 0.02).float()
    first[:, half:] *= (rates < 0.02).float()
    turned = timestep[:, None] * rates
    sinusoids = torch.cat([turned.cos(), turned.sin()], dim=1)
    return F.silu(F.linear(sinusoids, first, weights["time_embedding.0.bias"]))


@torch.no_grad()
def _copied_patches(weights: Weights, batches: list[training.Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    plain = {name: tensor.clone() for name, tensor in weights.items()}
    plain["time_embedding.2.weight"].zero_()
    plain["time_embedding.2.bias"].zero_()
    model = training.build_expert(plain)
    copied: list[torch.Tensor] | torch.Tensor = []
    latents: list[torch.Tensor] | torch.Tensor = []
    with training.training_mode():
        for batch in batches:
            noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
            answer = training.velocity(model, noise, torch.ones(len(noise)), batch)
            copied.append((noise - answer)[:, :, 1:].movedim(1, -1).flatten(0, -2))
            latents.append(batch.latents[:, :, 1:].movedim(1, -1).flatten(0, -2))
    copied, latents = torch.cat(copied), torch.cat(latents)
    error = (copied - latents).pow(2).mean(dim=1)
    best = error <= error.quantile(WELL_COPIED)
    return copied[best], latents[best]
