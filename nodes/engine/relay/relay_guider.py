"""Both Wan2.2 experts in one sampler run.

The sampler asks its guider for a prediction at each noise level. `RelayGuider` is a ComfyUI guider that lets the
high-noise expert answer while the noise is at or above the boundary, and the low-noise expert below it. The solver, its
history and its noise never notice: that is how the Wan2.2 reference runs its two networks.

The guider plays the expert of the run's first step itself, as any CFGGuider would. The other one is a `WaitingExpert`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP

from ...rules.experts import HIGH_NOISE, LOW_NOISE
from ...rules.relay.expert_boundary import ExpertRoute
from .expert_clock import ExpertClock
from .sigma_schedule import make_route
from .step_counts import replay_context_windows, replay_keyframes
from .waiting_expert import Baton, WaitingExpert, WrappedSampler

log = logging.getLogger("wan_relay")

STEPPING = {"dpm_fast_function": "own", "dpm_adaptive_function": "adaptive"}
"""ComfyUI's two samplers that take only the ends of a schedule, by the name of their function."""


class RelayGuider(comfy.samplers.CFGGuider):
    """A GUIDER of two experts, for any sampler and sigmas; of one where `low_noise` is None (TI2V-5B).

    switch: "boundary" (high noise while sigma is at or above `boundary`) or "step" (the first `switch_step` steps).
    `sample` raises InvalidInput where switch_step lies outside the schedule that it is given.
    """

    first: str  # the expert that this guider plays itself
    running: str | None  # the expert that answered last
    inner_model: Any
    conds: Any
    waiting: Any = None  # the other one, a WaitingExpert, while a run of both lasts
    baton: Any = None  # a Baton, while a run lasts
    show: Callable[[str], None] | None = None  # told which expert answers from now on

    def __init__(
        self,
        high_noise: Any,
        low_noise: Any | None,
        switch: str = "boundary",
        boundary: float = 0.9,
        switch_step: int = 2,
    ):
        super().__init__(high_noise)
        self.switch, self.boundary, self.switch_step = switch, boundary, switch_step
        self.experts = {HIGH_NOISE: WaitingExpert(high_noise)}
        if low_noise is not None:
            self.experts[LOW_NOISE] = WaitingExpert(low_noise)
        self.route = make_route([], "boundary", boundary, 0)
        self.clock = ExpertClock()
        self._start_with(HIGH_NOISE)

    def inner_set_conds(self, conds: dict[str, list]) -> None:
        for expert in self.experts.values():
            expert.inner_set_conds(conds)
            expert.original_conds = self.experts[HIGH_NOISE].original_conds
        self._start_with(HIGH_NOISE)

    def set_cfg(self, high_noise_cfg: float, low_noise_cfg: float | None = None) -> None:
        """Sets each expert's guidance scale; one value sets both. At 1.0 ComfyUI skips the negative pass."""
        for name, expert in self.experts.items():
            expert.set_cfg(high_noise_cfg if name == HIGH_NOISE or low_noise_cfg is None else low_noise_cfg)
        self._start_with(HIGH_NOISE)

    def make_route(self, sigmas: list[float]) -> ExpertRoute:
        """Which expert takes which part of a schedule (steps + 1 sigmas)."""
        if len(self.experts) == 1:
            return make_route(sigmas, "boundary", 0.0, 0)
        return make_route(sigmas, self.switch, self.boundary, self.switch_step)

    def sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Any,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
        callback: Callable | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Runs `sampler` over `sigmas` once, as CFGGuider.sample does, with each expert where its noise level is."""
        if len(sigmas) == 0:
            return latent_image
        self.clock = ExpertClock()
        self.route = self.make_route(sigmas.tolist())
        begins_high = self.route.starts_high[0] if self.route.starts_high else True
        first = HIGH_NOISE if begins_high else LOW_NOISE
        self.waiting = self.experts[_other(first)] if self.route.n_high and self.route.n_low else None
        self._start_with(first)
        self.clock.start(f"load_{first}")
        try:
            if self.waiting is not None:
                self.waiting.register()
            return super().sample(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)
        finally:
            if self.waiting is not None:
                self.waiting.release()
            self.waiting = self.baton = self.inner_model = self.conds = self.loaded_models = None
            self.clock.stop()
            self._start_with(HIGH_NOISE)

    def outer_sample(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Runs the waiting expert's own OUTER_SAMPLE wrappers inside the first expert's: they see their own guider."""
        run = super().outer_sample
        if self.waiting is None:
            return run(*args, **kwargs)
        wrappers = comfy.patcher_extension.get_all_wrappers(
            WrappersMP.OUTER_SAMPLE, self.waiting.model_options, is_model_options=True
        )
        return WrapperExecutor.new_class_executor(run, self.waiting, wrappers).execute(*args, **kwargs)

    def inner_sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        device: torch.device,
        sampler: Any,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None,
        callback: Callable | None,
        disable_pbar: bool,
        seed: int | None,
        latent_shapes: list | None = None,
    ) -> torch.Tensor:
        """Keeps the baton, and watches the sampler's steps through its callback.

        The sampler gets copies, because some write into what they are given: uni_pc into the last sigma, FreeNoise into
        the noise.
        """
        self.baton = Baton(noise, latent_image, denoise_mask, seed, sigmas, latent_shapes)
        function_name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
        self.route.stepping = STEPPING.get(function_name, "schedule")
        if self.waiting is not None:
            sampler = self._with_waiting_wrappers(sampler)
            self._share_mask_function()

        def on_step(step: int, denoised: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
            self.route.reported(step)
            if callback is not None:
                callback(step, denoised, x, total_steps)

        samples = super().inner_sample(
            noise.clone(),
            latent_image.clone(),
            device,
            sampler,
            sigmas.clone(),
            None if denoise_mask is None else denoise_mask.clone(),
            on_step,
            disable_pbar,
            seed,
            latent_shapes,
        )
        self.clock.finish()
        return samples

    def outer_predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: dict | None = None, seed: int | None = None
    ) -> torch.Tensor:
        """One evaluation: the denoised latent for x at sigma `timestep`, by the expert whose noise level that is."""
        model_options = model_options or {}
        comfy.model_management.throw_exception_if_processing_interrupted()
        sigma = float(timestep.max())
        self._take_over(HIGH_NOISE if self.route.ask(sigma) else LOW_NOISE, sigma)
        if self.running == self.first:
            return super().outer_predict_noise(x, timestep, model_options, seed)
        own_options = comfy.patcher_extension.merge_nested_dicts(
            self.waiting.model_options, _additions(model_options, self.model_options)
        )
        return self.waiting.predict(x, timestep, own_options, seed)

    def _start_with(self, name: str) -> None:
        """Makes this guider play the expert `name`, with its model, options, conditioning and cfg."""
        expert = self.experts[name]
        self.first, self.running = name, None
        self.model_patcher, self.model_options = expert.model_patcher, expert.model_options
        self.original_conds, self.cfg = expert.original_conds, expert.cfg

    def _take_over(self, name: str, sigma: float) -> None:
        """Hands the baton to `name`: has its model loaded, where ComfyUI does not hold it already."""
        if name != self.running:
            self.clock.start(f"load_{name}")
            asked = self.route.asked[:-1]
            if self.running is None:
                replay_keyframes(self.conds, self.baton.sigmas, asked)
            else:
                self._take_hooks_off(self.running)
            if name != self.first:
                self.waiting.load(self.baton, asked)
            elif self.running is not None:
                self._return_to_first(asked)
            self.running = name
            text = f"{name.replace('_', '-')} expert from sigma {sigma:.4f}"
            log.info("Wan Relay: %s", text)
            if self.show is not None:
                self.show(text)
        self.clock.start(name)

    def _take_hooks_off(self, name: str) -> None:
        """Frees an expert's weights of the hook LoRAs on them: their strengths may change until it returns, and the
        expert that comes may be another clone of the same model."""
        options = self.model_options if name == self.first else self.waiting.model_options
        alone = {None: self.experts[name].model_patcher}
        for patcher in options.get("multigpu_clones", alone).values():
            patcher.clean_hooks()

    def _return_to_first(self, asked: list[float]) -> None:
        """For schedules that rise above the boundary again: the first expert may have been unloaded meanwhile."""
        comfy.sampler_helpers.prepare_sampling(
            self.model_patcher, self.baton.noise.shape, self.conds, self.model_options
        )
        self.inner_model.current_patcher = self.model_patcher
        replay_context_windows(self.model_options, self.baton.sigmas, asked)

    def _with_waiting_wrappers(self, sampler: Any) -> Any:
        """`sampler` inside the wrappers around the sampler that only the waiting expert has. One sampler runs, so
        what both experts carry under the same key (context windows' FreeNoise) wraps it once."""
        ours = self.model_options["transformer_options"].get("wrappers", {}).get(WrappersMP.SAMPLER_SAMPLE, {})
        theirs = self.waiting.model_options["transformer_options"].get("wrappers", {})
        wrappers = [
            function
            for key, functions in theirs.get(WrappersMP.SAMPLER_SAMPLE, {}).items()
            if key not in ours
            for function in functions
        ]
        return WrappedSampler(sampler, wrappers, self.waiting) if wrappers else sampler

    def _share_mask_function(self) -> None:
        """Lets each expert's own denoise mask function (Differential Diffusion) apply at its own noise levels."""
        functions = {
            name: options.get("denoise_mask_function")
            for name, options in ((self.first, self.model_options), (_other(self.first), self.waiting.model_options))
        }
        if any(functions.values()):

            def mask_function(sigma: torch.Tensor, mask: torch.Tensor, extra_options: dict) -> torch.Tensor:
                function = functions[HIGH_NOISE if self.route.is_high(float(sigma.max())) else LOW_NOISE]
                return mask if function is None else function(sigma, mask, extra_options=extra_options)

            self.model_options["denoise_mask_function"] = mask_function


def _other(name: str) -> str:
    return LOW_NOISE if name == HIGH_NOISE else HIGH_NOISE


def _additions(given: dict, base: dict) -> dict:
    """What a sampler or a wrapper added to `base` to make `given`: new keys, and the new ends of lists."""
    added: dict = {}
    for key, value in given.items():
        before = base.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            nested = _additions(value, before)
            if nested:
                added[key] = nested
        elif isinstance(value, list) and isinstance(before, list):
            if value[len(before) :]:
                added[key] = value[len(before) :]
        elif value is not before:
            added[key] = value
    return added
