"""Runs of a tiny pair: through the relay, by hand, and as two chained samplers."""

from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from wan_relay.nodes.engine.relay.flow_solvers import make_sampler
from wan_relay.nodes.engine.relay.relay_guider import RelayGuider
from wan_relay.nodes.engine.relay.shifted_model import with_shift
from wan_relay.nodes.engine.relay.sigma_schedule import make_sigmas
from wan_relay.tests.engine.tiny_wan import LATENT_SHAPE, conditioning, tiny_wan

Asked = list[tuple[str, float]]

RISING = [1.0, 0.92, 0.6, 0.95, 0.5, 0.0]
"""A schedule that comes back to the first expert, as restart samplers do."""


class Pair:
    """Two tiny experts with shift 5, their conditioning, and what each was asked: (expert, sigma) in order."""

    def __init__(self, shift: float = 5.0, kind: str = "i2v") -> None:
        self.asked: Asked = []
        self.high = self._recorded("high", with_shift(tiny_wan(kind, seed=1), shift))
        self.low = self._recorded("low", with_shift(tiny_wan(kind, seed=2), shift))
        self.positive, self.negative = conditioning(3), conditioning(4)

    def _recorded(self, name: str, model: Any) -> Any:
        def record(executor: Any, x: torch.Tensor, t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            self.asked.append((name, round(float(t[0]), 5)))
            return executor(x, t, *args, **kwargs)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "record", record)
        return model

    def sigmas(self, steps: int, sampler: str = "euler", scheduler: str = "simple") -> torch.Tensor:
        return make_sigmas(self.high.get_model_object("model_sampling"), scheduler, sampler, steps)

    def guider(self, cfg: float = 1.0, guider_class: type[RelayGuider] = RelayGuider, **settings: Any) -> RelayGuider:
        guider = guider_class(self.high, self.low, **settings)
        guider.set_conds(self.positive, self.negative)
        guider.set_cfg(cfg)
        return guider

    def relay(
        self, sampler: str, sigmas: torch.Tensor, latent: torch.Tensor | None = None, **options: Any
    ) -> torch.Tensor:
        """The relay's latent; `asked` afterwards holds this run's evaluations."""
        self.asked.clear()
        return run(self.guider(**options), sampler, sigmas, latent)

    def chain(self, sampler: str, sigmas: torch.Tensor, n_high: int, cfg: float = 1.0) -> torch.Tensor:
        """Two samplers after one another, as two KSamplerAdvanced with leftover noise are wired."""
        latent = torch.zeros(LATENT_SHAPE)
        for model, part, noise in (
            (self.high, sigmas[: n_high + 1], noise_for(latent)),
            (self.low, sigmas[n_high:], torch.zeros(LATENT_SHAPE)),
        ):
            latent = comfy.samplers.sample(
                model,
                noise,
                self.positive,
                self.negative,
                cfg,
                model.load_device,
                make_sampler(sampler),
                part,
                model.model_options,
                latent_image=latent,
                disable_pbar=True,
                seed=5,
            )
        return latent


def twins() -> Pair:
    """A pair whose experts have the same weights: the relay of these is ComfyUI's own run of one of them."""
    pair = Pair()
    pair.low = pair._recorded("low", with_shift(tiny_wan(seed=1), 5.0))
    return pair


def alone(pair: Pair, cfg: float = 1.0) -> comfy.samplers.CFGGuider:
    """ComfyUI's own guider over the high-noise expert."""
    guider = comfy.samplers.CFGGuider(pair.high)
    guider.set_conds(pair.positive, pair.negative)
    guider.set_cfg(cfg)
    return guider


def noise_for(latent: torch.Tensor, seed: int = 5) -> torch.Tensor:
    return torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))


def run(
    guider: Any,
    sampler: str,
    sigmas: torch.Tensor,
    latent: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    callback: Callable | None = None,
) -> torch.Tensor:
    latent = torch.zeros(LATENT_SHAPE) if latent is None else latent
    with torch.inference_mode():
        return guider.sample(
            noise_for(latent),
            latent,
            make_sampler(sampler),
            sigmas,
            denoise_mask=mask,
            callback=callback,
            disable_pbar=True,
            seed=5,
        )


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
