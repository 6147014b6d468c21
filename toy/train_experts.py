"""Gradient training of one expert by flow matching, from the fitted weights on."""

import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import expert_training as training

SEED = 7
SAVE_EVERY_S = 120.0


def train_expert(
    folder: Path,
    name: str,
    expert: str,
    start: Path,
    captions: training.Captions,
    budget_s: float,
    learning_rate: float,
    batch_size: int = 4,
) -> None:
    """Train `folder/name.pt` until its clock shows `budget_s` seconds; resumes where it stopped.

    `expert` is "high" or "low": the noise levels to train on. `start` is the safetensors file to begin from. The
    written weights are large where they must be exact, so rates above 1e-4 undo them faster than data can mend them.
    """
    bank = training.Bank(folder / "bank", captions)
    path = folder / f"{name}.pt"
    state = torch.load(path) if path.exists() else _first_state(start)
    torch.manual_seed(SEED + state["step"])
    rng = random.Random(SEED + state["step"])
    model = training.build_expert(state["model"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    average, spent, step = state["average"], state["seconds"], state["step"]
    began, saved, losses = time.monotonic(), time.monotonic(), []
    with training.training_mode():
        while spent + time.monotonic() - began < budget_s:
            elapsed = spent + time.monotonic() - began
            for group in optimizer.param_groups:
                group["lr"] = _rate(learning_rate, step, elapsed / budget_s)
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


def _first_state(start: Path) -> dict:
    weights = {name: tensor.float() for name, tensor in load_file(start).items()}
    return {"model": weights, "average": {n: t.clone() for n, t in weights.items()}, "step": 0, "seconds": 0.0}


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
