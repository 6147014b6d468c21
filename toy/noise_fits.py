"""How far the experts trust the noisy patch and how far the copied one; and the 4-step LoRA. All least squares."""

import torch
import torch.nn.functional as F

from . import expert_training as training
from . import layout
from .attention_heads import Weights
from .expert_fits import patches
from .initial_weights import fresh_weights
from .lanes import KNOWN, NOISY, STREAM_RMS, TIME_SHIFT
from .sizes import I2V, LORA_ALPHA, LORA_RANK

WELL_COPIED = 0.7  # the share of latents that the gains are fitted on; the rest came in at the border
LORA_LAYER = f"blocks.{I2V.num_layers - 1}.self_attn.o"
FOUR_STEPS = {"high": (1.0, 0.9375), "low": (0.8333, 0.625)}


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
def fit_head(
    weights: Weights, batches: list[training.Batch], expert: str, share: float, seed: int
) -> tuple[float, float]:
    """Least squares for the head at the noise levels of `expert`: the error of the clean latents, before and after.

    Channels differ in how well they are copied, so each is trusted by its own measure. The head may read the noisy and
    the known lanes only. `share` of the patches are fitted, those that were copied best.
    """
    generator = torch.Generator().manual_seed(seed)
    model = training.build_expert(weights)
    seen: list[torch.Tensor] = []
    model.head.head.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].flatten(0, 1)))
    read = [*range(NOISY, NOISY + 64), *range(KNOWN, KNOWN + 64)]
    inputs, errors = [], []
    with training.training_mode():
        for batch in batches:
            sigma = training.draw_sigma(len(batch.latents), expert, generator)
            noise = torch.randn(batch.latents.shape, generator=generator)
            answer = training.velocity(model, training.noised(batch.latents, noise, sigma), sigma, batch)
            missed = ((noise - batch.latents) - answer) * sigma.view(-1, 1, 1, 1, 1)
            weight = sigma.repeat_interleave(missed[0, 0].numel() // 4)[:, None]
            inputs.append((F.pad(seen.pop()[:, read], (0, 1), value=1.0) * weight).double())
            errors.append(patches(missed.transpose(1, 2).flatten(0, 1)).view(-1, 64).double())
    x, y = torch.cat(inputs), torch.cat(errors)
    size = y.pow(2).mean(dim=1)
    best = size <= size.quantile(share)
    x, y = x[best], y[best]
    gram = x.T @ x
    change = torch.linalg.solve(gram + 1e-3 * gram.diagonal().diag(), x.T @ y)
    weights["head.head.weight"][:, read] += change[:-1].T.float()
    weights["head.head.bias"] += change[-1].float()
    return y.pow(2).mean().item(), (y - x @ change).pow(2).mean().item()


@torch.no_grad()
def fit_lora(weights: Weights, batches: list[training.Batch], expert: str, seed: int) -> tuple[Weights, float, float]:
    """A 4-step LoRA in lightx2v's layout, and the error of the clean latents before and after on these clips.

    The last block's self-attention looks at the patch's own surroundings in place and time and says nothing yet; the
    LoRA gives its output layer the best answer of LORA_RANK numbers for the two noise levels that this expert meets
    in four steps (reduced-rank regression). The other layers of the LoRA are there and change nothing.
    """
    model = training.build_expert(weights)
    seen: list[torch.Tensor] = []
    model.get_submodule(LORA_LAYER).register_forward_hook(lambda layer, inputs, _: seen.append(inputs[0].flatten(0, 1)))
    inputs, errors = [], []
    with training.training_mode():
        for index, batch in enumerate(batches):
            sigma = torch.full((len(batch.latents),), FOUR_STEPS[expert][index % 2])
            noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(seed + index))
            answer = training.velocity(model, training.noised(batch.latents, noise, sigma), sigma, batch)
            missed = sigma[0] * (answer - (noise - batch.latents))
            inputs.append(seen.pop().double())
            errors.append(patches(missed.transpose(1, 2).flatten(0, 1)).view(-1, 64).double())
    x, y = torch.cat(inputs), torch.cat(errors)
    size = y.pow(2).mean(dim=1)
    best = size <= size.quantile(WELL_COPIED)
    x, y = x[best], y[best]
    gram = x.T @ x
    change = torch.linalg.solve(gram + 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype), x.T @ y)
    _, axes = torch.linalg.eigh((x @ change).T @ (x @ change))
    axes = axes[:, -LORA_RANK:]
    low_rank = change @ axes
    lora = fresh_weights(layout.lora(I2V, LORA_RANK), seed)
    for name in lora:
        if name.endswith("lora_up.weight"):
            lora[name].zero_()
        elif name.endswith("alpha"):
            lora[name].fill_(LORA_ALPHA)
    balance = (low_rank.norm() / axes.norm()).sqrt().item()
    lora[f"diffusion_model.{LORA_LAYER}.lora_down.weight"] = (low_rank.T / balance).float()
    up = lora[f"diffusion_model.{LORA_LAYER}.lora_up.weight"]
    up[KNOWN : KNOWN + 64] = (axes * balance).float() * (LORA_RANK / LORA_ALPHA)
    return lora, y.pow(2).mean().item(), (y + x @ low_rank @ axes.T * -1).pow(2).mean().item()


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
