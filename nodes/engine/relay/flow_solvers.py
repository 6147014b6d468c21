"""The Wan2.2 reference's two solvers, as ComfyUI samplers.

Both solve the flow-matching ODE in lambda = log((1 - sigma) / sigma) with the network's denoised prediction (data
prediction), one network evaluation a step:

    flow_unipc     UniPC of order 2 with B(h) = e^h - 1 ("bh2"), predictor and corrector (Zhao et al., arXiv 2302.04867)
    flow_dpm++     DPM-Solver++(2M), midpoint (Lu et al. 2022, arXiv 2211.01095)

The reference hands its network each timestep truncated to an integer (937 for sigma 0.9375); ComfyUI hands it the
exact one (937.5), and so do these. At sigma 1 and 0 lambda is infinite; both updates have finite limits there, which
is what the closed forms below give. Core's `uni_pc` is a different algorithm (order 3, other lambda).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from tqdm.auto import trange

FLOW_SOLVERS = ("flow_unipc", "flow_dpm++")


def sampler_names() -> list[str]:
    return [*comfy.samplers.SAMPLER_NAMES, *FLOW_SOLVERS]


def make_sampler(name: str) -> Any:
    """A ComfyUI SAMPLER object by name: ours, or one of ComfyUI's own."""
    if name == "flow_unipc":
        return comfy.samplers.KSAMPLER(sample_flow_unipc)
    if name == "flow_dpm++":
        return comfy.samplers.KSAMPLER(sample_flow_dpmpp)
    return comfy.samplers.sampler_object(name)


def flow_lambda(sigma: float) -> float:
    """Half the log signal-to-noise ratio of a flow model: -inf at sigma 1, inf at sigma 0."""
    if sigma >= 1.0:
        return -math.inf
    return math.inf if sigma <= 0.0 else math.log((1.0 - sigma) / sigma)


def step_towards(x: torch.Tensor, target: torch.Tensor, sigma: float, next_sigma: float) -> torch.Tensor:
    """x at `sigma` moved to `next_sigma`, exactly so if the denoised prediction were `target` on the whole way."""
    ratio = next_sigma / sigma
    return ratio * x + (1.0 - ratio) * target


@torch.no_grad()
def sample_flow_dpmpp(
    model: Callable,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """DPM-Solver++(2M) as the reference runs it: first order at the first step and into sigma 0."""
    levels = sigmas.tolist()
    steps = len(levels) - 1
    older = None
    for step in trange(steps, disable=disable):
        denoised = _denoise(model, x, sigmas, step, extra_args, callback)
        target = denoised
        lower_order_final = step == steps - 1 and (levels[-1] == 0.0 or steps < 15)
        if older is not None and not lower_order_final:
            target = denoised + 0.5 * _change(denoised, older, *levels[step - 1 : step + 2])
        x = step_towards(x, target, levels[step], levels[step + 1])
        older = denoised
    return x


@torch.no_grad()
def sample_flow_unipc(
    model: Callable,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """UniPC-2 (bh2) as the reference runs it: each prediction first corrects the step that led to it, then predicts
    the next; first order at the first and the last step."""
    levels = sigmas.tolist()
    steps = len(levels) - 1
    start, previous, older, order = x, x, x, 0  # where the step before started, the predictions before, its order
    for step in trange(steps, disable=disable):
        denoised = _denoise(model, x, sigmas, step, extra_args, callback)
        if order > 0:
            target = previous + _correction(denoised, previous, older, levels[max(step - 2, 0) : step + 1], order)
            x = step_towards(start, target, levels[step - 1], levels[step])
        start, previous, older = x, denoised, previous
        order = min(2, step + 1, steps - step)
        target = denoised
        if order == 2:
            target = denoised + 0.5 * _change(denoised, older, *levels[step - 1 : step + 2])
        x = step_towards(x, target, levels[step], levels[step + 1])
    return x


def _denoise(
    model: Callable,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    step: int,
    extra_args: dict | None,
    callback: Callable | None,
) -> torch.Tensor:
    sigma = sigmas[step]
    denoised = model(x, sigma * x.new_ones([x.shape[0]]), **(extra_args or {}))
    if callback is not None:
        callback({"x": x, "i": step, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
    return denoised


def _change(
    denoised: torch.Tensor, older: torch.Tensor, older_sigma: float, sigma: float, next_sigma: float
) -> torch.Tensor:
    """How far the prediction would move over the next step in lambda, at the rate of the step before."""
    older_width = flow_lambda(sigma) - flow_lambda(older_sigma)
    width = flow_lambda(next_sigma) - flow_lambda(sigma)
    return (denoised - older) * (width / older_width)


def _correction(
    denoised: torch.Tensor, previous: torch.Tensor, older: torch.Tensor, levels: list[float], order: int
) -> torch.Tensor:
    """UniC: what to add to the prediction `previous`, on the way from levels[-2] to levels[-1], now that the
    prediction at the end of that way, `denoised`, is known. Order 2 also fits `older`, at levels[0]."""
    if order == 1:
        return 0.5 * (denoised - previous)
    width = flow_lambda(levels[-1]) - flow_lambda(levels[-2])
    ratio = (flow_lambda(levels[0]) - flow_lambda(levels[-2])) / width
    growth = math.expm1(-width)
    once = growth / -width - 1.0
    first, second = once / growth, 2.0 * (once / -width - 0.5) / growth
    older_weight = (second - first) / (ratio - 1.0)
    return older_weight / ratio * (older - previous) + (first - older_weight) * (denoised - previous)
