"""Gradient training of an expert by flow matching."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from . import expert_training as training
from .expert_start import FREE_BLOCK
from .lanes import CONSTANT, NUM_CONSTANTS
from .optimizers import Optimizers
from .saved_training import SAVE_EVERY_S, save_state

SEED = 7
PRINT_EVERY = 50
OTHERS_SHARE = 0.2  # of the learning rate, for what is not a matrix, and for the head
_LAYERS = ("self_attn.q", "self_attn.k", "self_attn.v", "cross_attn.q", "ffn.0", "head.head")
READS_STREAM = tuple(f"{layer}.weight" for layer in _LAYERS)


@dataclass(frozen=True)
class Plan:
    """`expert` is "high" or "low": the noise levels to train on. `seconds` is the clock's budget."""

    expert: str
    seconds: float
    learning_rate: float
    doubt: training.Doubt
    warm_up: int = 100
    final_share: float = 0.5  # of the budget, over which the rate falls to nothing
    head: bool = True  # whether the head learns too; a LoRA, which has no head, cannot take back what the head learned


def train_expert(
    path: Path, start: dict[str, torch.Tensor], bank: training.Bank, plan: Plan
) -> dict[str, torch.Tensor]:
    """Train until the clock shows `plan.seconds`; returns the running average of the weights.

    `path` keeps the state every two minutes; where it exists, training goes on from it instead of from `start`.
    """
    state = torch.load(path) if path.exists() else _first_state(start)
    torch.manual_seed(SEED + state["step"])
    rng = random.Random(SEED + state["step"])
    model = training.build_expert(state["model"])
    matrices, others = choose_trained(model, plan.head)
    torch.compiler.reset()  # what an earlier training compiled counts against the limit of shapes
    model.compile(dynamic=False)
    rates = (plan.learning_rate, OTHERS_SHARE * plan.learning_rate)
    optimizers = Optimizers(matrices, others, rates, clip=1.0)
    if "optimizers" in state:
        optimizers.load_states(state["optimizers"])
    average, spent, step = state["average"], state["seconds"], state["step"]
    began = saved = time.monotonic()
    losses: list[float] = []

    def save() -> None:
        kept = {"model": model.state_dict(), "average": average, "step": step}
        kept |= {"optimizers": optimizers.states(), "seconds": spent + time.monotonic() - began}
        save_state(path, kept)

    with training.training_mode():
        while (elapsed := spent + time.monotonic() - began) < plan.seconds:
            rate = min(1.0, (step + 1) / plan.warm_up) * min(1.0, (1 - elapsed / plan.seconds) / plan.final_share)
            batch = bank.batch(training.BATCH_TOKENS, rng, plan.doubt)
            loss = training.flow_matching_loss(model, batch, training.draw_sigma(len(batch.latents), plan.expert))
            optimizers.step(loss, rate)
            step += 1
            losses.append(loss.item())
            _follow(average, model, step)
            if step % PRINT_EVERY == 0:
                mean = sum(losses[-PRINT_EVERY:]) / PRINT_EVERY
                print(f"{path.stem} step {step} {elapsed:.0f}s loss {mean:.4f}", flush=True)
            if time.monotonic() - saved > SAVE_EVERY_S:
                saved = time.monotonic()
                save()
    save()
    return average


def choose_trained(model: torch.nn.Module, head: bool) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The free block's matrices, and its other parameters with the head where asked; the rest stands still.

    No layer learns from the constant lanes: they are loud, and would drown what the others say.
    """

    def without_constants(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[:, CONSTANT : CONSTANT + NUM_CONSTANTS] = 0.0
        return gradient

    model.requires_grad_(False)
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.startswith(FREE_BLOCK) or (head and name.startswith("head.head")):
            parameter.requires_grad_(True)
            (matrices if parameter.ndim == 2 and name.startswith(FREE_BLOCK) else others).append(parameter)
            if name.endswith(READS_STREAM):
                parameter.register_hook(without_constants)
    return matrices, others


def _first_state(start: dict[str, torch.Tensor]) -> dict:
    weights = {name: tensor.float() for name, tensor in start.items()}
    return {"model": weights, "average": {n: t.clone() for n, t in weights.items()}, "step": 0, "seconds": 0.0}


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], model: torch.nn.Module, step: int) -> None:
    weight = max(0.003, 1 / (step + 1))
    for name, tensor in model.state_dict().items():
        average[name].lerp_(tensor, weight)
