"""Training that saves its state and goes on from there: a machine may go away at any time."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

SAVE_EVERY_S = 120.0


def resume(path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The step to go on from: that of the state in `path`, which is loaded, or 0 where there is none."""
    if not path.exists():
        return 0
    state = torch.load(path)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def train_steps(
    path: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: range,
    share: Callable[[int], float],
    loss_at: Callable[[int], torch.Tensor],
) -> None:
    """Go down the gradient of `loss_at(step)` at `share(step)` of the optimizer's own learning rates.

    `steps` begins where `resume` says; `path` keeps the state every two minutes and at the end.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share, last_epoch=steps.start - 1)
    saved, losses = time.monotonic(), []
    for step in steps:
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if time.monotonic() - saved > SAVE_EVERY_S or step == steps[-1]:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_state(path, state)
            print(f"{path.stem} step {step + 1} loss {sum(losses) / len(losses):.5f}", flush=True)
            saved, losses = time.monotonic(), []


def save_state(path: Path, state: dict) -> None:
    """Atomic torch.save."""
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)
