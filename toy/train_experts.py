"""Trains the experts by flow matching: first one network for every noise level, then one for each side of 0.9."""

import random
import time
from pathlib import Path

import torch

from . import captions as grammar
from . import expert_training as training
from .expert_start import skeleton

SEED = 7
SAVE_EVERY_S = 120.0


def train_expert(
    folder: Path,
    name: str,
    expert: str,
    start: Path | None,
    budget_s: float,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
) -> None:
    """Train `folder/name.pt` until its clock shows `budget_s` seconds; resumes where it stopped.

    `expert` is "both", "high" or "low": the noise levels to train on. `start` is another state to begin from.
    """
    captions = training.Captions(folder / "models/text_encoders/toy_umt5.safetensors")
    bank = training.Bank(folder / "bank", captions)
    path = folder / f"{name}.pt"
    state = _load_or_start(path, start, captions)
    torch.manual_seed(SEED + state["step"])
    rng = random.Random(SEED + state["step"])
    model = training.build_expert(state["model"])
    optimizer = _optimizer(model, learning_rate)
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    average, spent, step = state["average"], state["seconds"], state["step"]
    began, saved, losses = time.monotonic(), time.monotonic(), []
    with training.training_mode():
        while spent + time.monotonic() - began < budget_s:
            elapsed = spent + time.monotonic() - began
            for group in optimizer.param_groups:
                group["lr"] = group["scale"] * _rate(learning_rate, step, elapsed / budget_s)
            loss = _loss(model, bank.batch(batch_size, rng), expert)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            losses.append(loss.item())
            _follow(average, model, step)
            if step % 50 == 0:
                print(f"{name} step {step} {elapsed:.0f}s loss {sum(losses[-50:]) / 50:.4f}", flush=True)
            if time.monotonic() - saved > SAVE_EVERY_S:
                saved = time.monotonic()
                _save(path, model, optimizer, average, step, spent + saved - began)
                bank.refresh()
    _save(path, model, optimizer, average, step, spent + time.monotonic() - began)


def _loss(model, batch: training.Batch, expert: str) -> torch.Tensor:
    sigma = training.draw_sigma(len(batch.latents), expert)
    noise = torch.randn_like(batch.latents)
    with torch.autocast("cpu", torch.bfloat16):
        answer = training.velocity(model, training.noised(batch.latents, noise, sigma), sigma, batch)
    return (answer.float() - (noise - batch.latents)).pow(2).mean()


def _load_or_start(path: Path, start: Path | None, captions: training.Captions) -> dict:
    if path.exists():
        return torch.load(path)
    if start is not None:
        weights = torch.load(start)["average"]
    else:
        words = torch.cat([captions.encode(line) for line in grammar.all_captions()[::7]])
        weights = starting_expert(words, SEED)
    return {"model": weights, "average": {k: v.clone() for k, v in weights.items()}, "step": 0, "seconds": 0.0}


def _optimizer(model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    slow = [p for name, p in model.named_parameters() if p.ndim == 1 or "time_" in name]
    fast = [p for name, p in model.named_parameters() if not (p.ndim == 1 or "time_" in name)]
    groups = [{"params": fast, "scale": 1.0}, {"params": slow, "scale": 1.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)


def _rate(peak: float, step: int, done: float) -> float:
    """Warm up over 100 steps, hold, then fall to a twentieth over the last third of the clock."""
    return peak * min(1.0, step / 100) * min(1.0, max(0.05, (1 - done) / 0.35))


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], model: torch.nn.Module, step: int) -> None:
    weight = max(0.005, 1 / (step + 1))
    for name, tensor in model.state_dict().items():
        average[name].lerp_(tensor, weight)


def _save(path: Path, model, optimizer, average: dict, step: int, seconds: float) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
    training.save_state(path, state | {"step": step, "seconds": seconds})
