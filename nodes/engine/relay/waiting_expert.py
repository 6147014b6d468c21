"""A leg of a relay that does not begin: registered when the run starts, loaded when its first evaluation comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.multigpu
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.patcher_extension import WrapperExecutor

from .step_counts import replay_context_windows, replay_keyframes


class Baton(NamedTuple):
    """What a leg that waits needs to join a run: the arguments that the run started with."""

    noise: torch.Tensor
    latent_image: torch.Tensor
    denoise_mask: torch.Tensor | None
    seed: int | None
    sigmas: torch.Tensor
    latent_shapes: list | None


class WaitingExpert(comfy.samplers.CFGGuider):
    """One expert that joins a run in the middle: what CFGGuider does around a run, in three parts.

    `register` before the run, `load` at the first evaluation, `release` after the run, whatever happened in it.
    """

    model_options: dict[str, Any]

    def __init__(self, model_patcher: Any):
        super().__init__(model_patcher)
        self.entered = False

    def register(self) -> None:
        """Copies the conditioning and options for this run and registers the hooks, without loading anything."""
        patcher = self.model_patcher
        self.kept_options, self.kept_hook_mode = self.model_options, patcher.hook_mode
        self.loaded_models: list[Any] = []
        self.multigpu_patchers: list[Any] = []
        self.conds = {name: [cond.copy() for cond in conds] for name, conds in self.original_conds.items()}
        comfy.samplers.preprocess_conds_hooks(self.conds)
        self.model_options = comfy.model_patcher.create_model_options_clone(self.model_options)
        if comfy.samplers.get_total_hook_groups_in_conds(self.conds) <= 1:
            patcher.hook_mode = comfy.hooks.EnumHookMode.MinVram
        comfy.sampler_helpers.prepare_model_patcher(patcher, self.conds, self.model_options)
        comfy.samplers.filter_registered_hooks_on_conds(self.conds, self.model_options)

    def load(self, baton: Baton, asked: Sequence[float]) -> None:
        """Lets ComfyUI load the model, the first time or again, and processes the conditioning for it once.

        asked: the sigmas that the run has evaluated so far.
        """
        first_time = not self.entered
        self.entered = True
        self.inner_model, self.conds, self.loaded_models = comfy.sampler_helpers.prepare_sampling(
            self.model_patcher, baton.noise.shape, self.conds, self.model_options
        )
        self.inner_model.current_patcher = self.model_patcher
        self.inner_model.latent_shapes = baton.latent_shapes  # newer ComfyUI sets it on the first expert's
        replay_context_windows(self.model_options, baton.sigmas, asked)
        if not first_time:
            return
        patcher, device = self.model_patcher, self.model_patcher.load_device
        self.multigpu_patchers = comfy.sampler_helpers.prepare_model_patcher_multigpu_clones(
            patcher, self.loaded_models, self.model_options
        )
        if self.multigpu_patchers:
            devices = [device, *(extra.load_device for extra in self.multigpu_patchers)]
            self.model_options["multigpu_thread_pool"] = comfy.multigpu.MultiGPUThreadPool(devices)
        comfy.samplers.cast_to_load_options(self.model_options, device=device, dtype=patcher.model_dtype())
        for each in (patcher, *self.multigpu_patchers):
            each.pre_run()
        latent_image = baton.latent_image.to(device)
        if torch.count_nonzero(latent_image) > 0:
            latent_image = self.inner_model.process_latent_in(latent_image)
        self.conds = comfy.samplers.process_conds(
            self.inner_model,
            baton.noise.to(device),
            self.conds,
            device,
            latent_image,
            None if baton.denoise_mask is None else baton.denoise_mask.to(device),
            baton.seed,
            latent_shapes=baton.latent_shapes,
        )
        replay_keyframes(self.conds, baton.sigmas, asked)

    def predict(self, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, seed: int | None) -> torch.Tensor:
        """The denoised latent for x, (batch, channels, frames, height, width), at sigma `timestep`, (batch,)."""
        device = self.model_patcher.load_device
        told = model_options.get("transformer_options", {})
        if "sample_sigmas" in told:  # context windows look for the timestep among them
            told = told | {"sample_sigmas": told["sample_sigmas"].to(device)}
            model_options = model_options | {"transformer_options": told}
        with comfy.model_management.cuda_device_context(device):
            denoised = self.outer_predict_noise(x.to(device), timestep.to(device), model_options, seed)
        return denoised.to(x.device)

    def release(self) -> None:
        """Undoes `register` and `load`. ComfyUI keeps the weights where they are for as long as it has room."""
        pool = self.model_options.pop("multigpu_thread_pool", None)
        if pool is not None:
            pool.shutdown()
        if self.entered:
            for each in (self.model_patcher, *self.multigpu_patchers):
                each.cleanup()
            comfy.sampler_helpers.cleanup_models(self.conds, self.loaded_models)
        comfy.samplers.cast_to_load_options(self.model_options, device=self.model_patcher.offload_device)
        self.model_options = self.kept_options
        self.model_patcher.hook_mode = self.kept_hook_mode
        self.model_patcher.restore_hook_patches()
        self.conds, self.inner_model, self.loaded_models, self.multigpu_patchers = {}, None, [], []
        self.entered = False


class WrappedSampler(comfy.samplers.Sampler):
    """A sampler inside one expert's SAMPLER_SAMPLE wrappers, which see that expert and its options."""

    def __init__(self, sampler: Any, wrappers: list[Callable], expert: WaitingExpert):
        self.sampler, self.wrappers, self.expert = sampler, wrappers, expert

    def sample(self, model_wrap: Any, sigmas: torch.Tensor, extra_args: dict, *args: Any) -> torch.Tensor:
        def run(_expert: Any, sigmas: torch.Tensor, _own_args: dict, *args: Any) -> torch.Tensor:
            return self.sampler.sample(model_wrap, sigmas, extra_args, *args)

        own_args = {**extra_args, "model_options": self.expert.model_options}
        executor = WrapperExecutor.new_class_executor(run, self.sampler, self.wrappers)
        return executor.execute(self.expert, sigmas, own_args, *args)
