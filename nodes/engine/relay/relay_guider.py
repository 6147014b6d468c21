"""Both Wan2.2 experts in one sampler run, and the legs that may come before them.

The sampler asks its guider for a prediction at each noise level. `RelayGuider` is a ComfyUI guider that lets the
high-noise expert answer while the noise is at or above the boundary, and the low-noise expert below it. The solver, its
history and its noise never notice: that is how the Wan2.2 reference runs its two networks. Opening legs take the first
steps from the high-noise expert; one comparison per leg says whose an evaluation is (`rules/relay/legs.py`).

The guider plays the leg of the run's first step itself, as any CFGGuider would. The others are `WaitingExpert`s.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP

from ...rules.experts import HIGH_NOISE, LOW_NOISE, OPENING, opening_names
from ...rules.relay.legs import LegRoute
from .expert_clock import ExpertClock
from .opening_leg import OpeningLeg
from .sigma_schedule import make_route
from .step_counts import replay_context_windows, replay_keyframes
from .waiting_expert import Baton, WaitingExpert, WrappedSampler

log = logging.getLogger("wan_relay")

STEPPING = {"dpm_fast_function": "own", "dpm_adaptive_function": "adaptive"}
"""ComfyUI's two samplers that take only the ends of a schedule, by the name of their function."""


class RelayGuider(comfy.samplers.CFGGuider):
    """A GUIDER of two experts, for any sampler and sigmas; of one where `low_noise` is None (TI2V-5B).

    switch: "boundary" (high noise while sigma is at or above `boundary`) or "step" (the first `switch_step` steps).
    opening: legs that take the first steps, in order; `switch_step` counts their steps too.
    `sample` raises InvalidInput where switch_step or the opening legs do not fit the schedule that it is given.
    """

    first: str  # the leg that this guider plays itself
    running: str | None  # the leg that answered last
    inner_model: Any
    conds: Any
    baton: Any = None  # a Baton, while a run lasts
    show: Callable[[str], None] | None = None  # told which leg answers from now on

    def __init__(
        self,
        high_noise: Any,
        low_noise: Any | None,
        switch: str = "boundary",
        boundary: float = 0.9,
        switch_step: int = 2,
        opening: Sequence[OpeningLeg] = (),
    ):
        super().__init__(high_noise)
        self.switch, self.boundary, self.switch_step = switch, boundary, switch_step
        self.opening = dict(zip(opening_names(len(opening)), opening, strict=True))
        self.legs = {name: WaitingExpert(leg.model) for name, leg in self.opening.items()}
        self.legs[HIGH_NOISE] = WaitingExpert(high_noise)
        if low_noise is not None:
            self.legs[LOW_NOISE] = WaitingExpert(low_noise)
        for name, leg in self.opening.items():
            self.legs[name].set_cfg(leg.cfg)
        self.waiting: dict[str, WaitingExpert] = {}  # the other legs of a run, while it lasts
        self.route = make_route([], "boundary", boundary, 0)
        self.clock = ExpertClock()
        self._start_with(HIGH_NOISE)

    def inner_set_conds(self, conds: dict[str, list]) -> None:
        for leg in self.legs.values():
            leg.inner_set_conds(conds)
        shared = self.legs[HIGH_NOISE].original_conds
        for name, leg in self.legs.items():
            own = self.opening[name].own_conds() if name in self.opening else {}
            leg.inner_set_conds(own)
            leg.original_conds = shared | {key: leg.original_conds[key] for key in own}
        self._start_with(HIGH_NOISE)

    def set_cfg(self, high_noise_cfg: float, low_noise_cfg: float | None = None) -> None:
        """Sets each expert's guidance scale; one value sets both. At 1.0 ComfyUI skips the negative pass.

        Opening legs keep their own.
        """
        self.legs[HIGH_NOISE].set_cfg(high_noise_cfg)
        if LOW_NOISE in self.legs:
            self.legs[LOW_NOISE].set_cfg(high_noise_cfg if low_noise_cfg is None else low_noise_cfg)
        self._start_with(HIGH_NOISE)

    def make_route(self, sigmas: list[float]) -> LegRoute:
        """Which leg takes which part of a schedule (steps + 1 sigmas), by its place in `legs`."""
        opening_steps = [leg.steps for leg in self.opening.values()]
        num_experts = 2 if LOW_NOISE in self.legs else 1
        return make_route(sigmas, self.switch, self.boundary, self.switch_step, opening_steps, num_experts)

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
        """Runs `sampler` over `sigmas` once, as CFGGuider.sample does, with each leg where its noise level is."""
        if len(sigmas) == 0:
            return latent_image
        self.clock = ExpertClock()
        self.route = self.make_route(sigmas.tolist())
        names = list(self.legs)
        first = names[self.route.starts[0]] if self.route.starts else HIGH_NOISE
        taking_steps = [names[leg] for leg in sorted(set(self.route.starts))]
        self.waiting = {name: self.legs[name] for name in taking_steps if name != first}
        self._start_with(first)
        self.clock.start(f"load_{first}")
        try:
            with contextlib.ExitStack() as released:
                for leg in self.waiting.values():
                    released.callback(leg.release)
                    leg.register()
                return super().sample(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)
        finally:
            self.waiting = {}
            self.baton = self.inner_model = self.conds = self.loaded_models = None
            self.clock.stop()
            self._start_with(HIGH_NOISE)

    def outer_sample(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Runs the waiting legs' own OUTER_SAMPLE wrappers inside the first leg's: they see their own guider."""
        run = super().outer_sample
        for leg in reversed(self.waiting.values()):
            wrappers = comfy.patcher_extension.get_all_wrappers(
                WrappersMP.OUTER_SAMPLE, leg.model_options, is_model_options=True
            )
            run = WrapperExecutor.new_class_executor(run, leg, wrappers).execute
        return run(*args, **kwargs)

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
        if self.waiting:
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
        """One evaluation: the denoised latent for x at sigma `timestep`, by the leg whose noise level that is."""
        model_options = model_options or {}
        comfy.model_management.throw_exception_if_processing_interrupted()
        sigma = float(timestep.max())
        name = list(self.legs)[self.route.ask(sigma)]
        self._take_over(name, sigma)
        if name == self.first:
            return super().outer_predict_noise(x, timestep, model_options, seed)
        leg = self.waiting[name]
        own_options = comfy.patcher_extension.merge_nested_dicts(
            leg.model_options, _additions(model_options, self.model_options)
        )
        return leg.predict(x, timestep, own_options, seed)

    def _start_with(self, name: str) -> None:
        """Makes this guider play the leg `name`, with its model, options, conditioning and cfg."""
        leg = self.legs[name]
        self.first, self.running = name, None
        self.model_patcher, self.model_options = leg.model_patcher, leg.model_options
        self.original_conds, self.cfg = leg.original_conds, leg.cfg

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
                self.waiting[name].load(self.baton, asked)
            elif self.running is not None:
                self._return_to_first(asked)
            self.running = name
            what = f"{name.replace('_', ' ')} leg" if name.startswith(OPENING) else f"{name.replace('_', '-')} expert"
            text = f"{what} from sigma {sigma:.4f}"
            log.info("Wan Relay: %s", text)
            if self.show is not None:
                self.show(text)
        self.clock.start(name)

    def _take_hooks_off(self, name: str) -> None:
        """Frees a leg's weights of the hook LoRAs on them: their strengths may change until it returns, and the leg
        that comes may be another clone of the same model."""
        options = self.model_options if name == self.first else self.waiting[name].model_options
        alone = {None: self.legs[name].model_patcher}
        for patcher in options.get("multigpu_clones", alone).values():
            patcher.clean_hooks()

    def _return_to_first(self, asked: list[float]) -> None:
        """For schedules that rise above the boundary again: the first leg may have been unloaded meanwhile."""
        comfy.sampler_helpers.prepare_sampling(
            self.model_patcher, self.baton.noise.shape, self.conds, self.model_options
        )
        self.inner_model.current_patcher = self.model_patcher
        replay_context_windows(self.model_options, self.baton.sigmas, asked)

    def _with_waiting_wrappers(self, sampler: Any) -> Any:
        """`sampler` inside the wrappers around the sampler that only waiting legs have. One sampler runs, so what
        several legs carry under the same key (context windows' FreeNoise) wraps it once."""
        seen = set(_around_sampler(self.model_options))
        wrapped = []
        for leg in self.waiting.values():
            theirs = _around_sampler(leg.model_options)
            wrappers = [function for key, functions in theirs.items() if key not in seen for function in functions]
            seen |= set(theirs)
            if wrappers:
                wrapped.append((wrappers, leg))
        for wrappers, leg in reversed(wrapped):
            sampler = WrappedSampler(sampler, wrappers, leg)
        return sampler

    def _share_mask_function(self) -> None:
        """Lets each leg's own denoise mask function (Differential Diffusion) apply at its own noise levels."""
        options = {name: leg.model_options for name, leg in self.waiting.items()} | {self.first: self.model_options}
        functions = {name: own.get("denoise_mask_function") for name, own in options.items()}
        names = list(self.legs)
        if any(functions.values()):

            def mask_function(sigma: torch.Tensor, mask: torch.Tensor, extra_options: dict) -> torch.Tensor:
                function = functions[names[self.route.leg(float(sigma.max()))]]
                return mask if function is None else function(sigma, mask, extra_options=extra_options)

            self.model_options["denoise_mask_function"] = mask_function


def _around_sampler(model_options: dict) -> dict[str | None, list[Callable]]:
    """The wrappers around the sampler that a leg's options hold, by key."""
    wrappers: dict = model_options["transformer_options"].get("wrappers", {})
    return wrappers.get(WrappersMP.SAMPLER_SAMPLE, {})


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
