"""One relay from inputs to latent and report: what `WanRelay_Sample` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import comfy.model_management
import comfy.sample
import comfy.utils
import torch

from ...rules.errors import InvalidInput
from ...rules.experts import HIGH_NOISE, LOW_NOISE, opening_names
from ...rules.relay.expert_boundary import BOUNDARIES
from ..files.model_kind import (
    check_images,
    check_latent,
    check_models,
    conditioning_warnings,
    kind_name,
    used_conditioning,
)
from .attention_guidance import nag_scale, nag_warnings
from .flow_solvers import make_sampler, sampler_names
from .opening_leg import OpeningLeg, check_opening
from .relay_guider import RelayGuider
from .run_display import RunDisplay
from .shifted_model import with_shift
from .sigma_schedule import NOTES, first_low_step, make_sigmas, schedule_notes, shift_of


class LegReport(TypedDict):
    """One leg that took steps: "opening", "opening_2" …, "high_noise" or "low_noise", in the order of the run."""

    leg: str
    steps: int
    cfg: float
    from_sigma: float
    nag_scale: float  # 0 where NAG is off


class SamplingReport(TypedDict):
    """What ran: the values that were used, the sigmas (steps + 1), the legs and their seconds, and sentences."""

    sigmas: list[float]
    seed: int
    steps: int
    high_noise_cfg: float
    low_noise_cfg: float
    sampler: str
    scheduler: str
    shift: float | None
    switch: str
    boundary: float
    switch_step: int
    denoise: float
    legs: list[LegReport]
    seconds: dict[str, float]
    load_seconds: dict[str, float]
    warnings: list[str]
    found: list[str]  # those of the warnings that the panel in the editor did not say before the run


class RelaySettings(NamedTuple):
    """The numbers of one relay, under the names of the node's inputs."""

    seed: int
    steps: int
    high_noise_cfg: float
    low_noise_cfg: float
    sampler: str
    scheduler: str
    shift: float
    switch: str
    boundary: float
    switch_step: int
    denoise: float


def make_guider(
    high_noise: Any,
    low_noise: Any | None,
    positive: list,
    negative: list,
    high_noise_cfg: float,
    low_noise_cfg: float,
    switch: str,
    boundary: float,
    switch_step: int,
    shift: float,
    opening: Sequence[OpeningLeg] = (),
) -> RelayGuider:
    """A guider over all legs, with `shift` put on clones of their models (0 keeps their own)."""
    high, low = (None if model is None else with_shift(model, shift) for model in (high_noise, low_noise))
    shifted = [leg._replace(model=with_shift(leg.model, shift)) for leg in opening]
    guider = RelayGuider(high, low, switch, boundary, switch_step, shifted)
    guider.set_conds(positive, negative)
    guider.set_cfg(high_noise_cfg, low_noise_cfg)
    return guider


def run_relay(
    high_noise: Any,
    low_noise: Any | None,
    positive: list,
    negative: list,
    latent: dict,
    settings: RelaySettings,
    opening: Sequence[OpeningLeg] = (),
) -> tuple[dict, SamplingReport]:
    """Samples `latent` and returns the new latent and the report, with progress shown while it runs.

    Raises InvalidInput for inputs that do not fit each other, before anything is loaded.
    """
    samples = latent["samples"]
    kind = check_models(high_noise, low_noise)
    told = used_conditioning(positive, negative, settings.high_noise_cfg, settings.low_noise_cfg)
    check_images(kind, told)
    check_latent(kind, told, samples)
    check_opening(opening, kind, positive, negative, samples)
    if settings.sampler not in sampler_names():
        raise InvalidInput(f"sampler must be one of {', '.join(sampler_names())}, not {settings.sampler!r}.")
    guider = make_guider(
        high_noise,
        low_noise,
        positive,
        negative,
        settings.high_noise_cfg,
        settings.low_noise_cfg,
        settings.switch,
        settings.boundary,
        settings.switch_step,
        settings.shift,
        opening,
    )
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = make_sigmas(sampling, settings.scheduler, settings.sampler, settings.steps, settings.denoise)
    noise = comfy.sample.prepare_noise(samples, settings.seed, latent.get("batch_index"))
    with RunDisplay(len(sigmas) - 1, guider.model_patcher.model.latent_format) as display:
        sampled = guider.sample(
            noise,
            samples,
            make_sampler(settings.sampler),
            sigmas,
            denoise_mask=latent.get("noise_mask"),
            callback=display.on_step,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=settings.seed,
        )
    sampled = sampled.to(
        device=comfy.model_management.intermediate_device(), dtype=comfy.model_management.intermediate_dtype()
    )
    num_experts = len(guider.legs) - len(opening)
    notes = schedule_notes(guider.route, settings.scheduler, settings.shift, len(opening), num_experts)
    found = [
        *model_warnings(guider, models_of(high_noise, low_noise, opening), settings.shift),
        *relay_warnings(guider, settings, sigmas, kind),
        *conditioning_warnings(positive, samples),
    ]
    report: SamplingReport = {
        "sigmas": sigmas.tolist(),
        "seed": settings.seed,
        "steps": settings.steps,
        "high_noise_cfg": settings.high_noise_cfg,
        "low_noise_cfg": settings.low_noise_cfg,
        "sampler": settings.sampler,
        "scheduler": settings.scheduler,
        "shift": shift_of(sampling),
        "switch": settings.switch,
        "boundary": settings.boundary,
        "switch_step": first_low_step(guider.route, len(opening)),
        "denoise": settings.denoise,
        "legs": _legs(guider),
        "seconds": _rounded(guider, "{}"),
        "load_seconds": _rounded(guider, "load_{}"),
        "warnings": [NOTES[note] for note in notes] + found,
        "found": found,
    }
    finished = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    return {**finished, "samples": sampled}, report


def models_of(high_noise: Any, low_noise: Any | None, opening: Sequence[OpeningLeg]) -> dict[str, Any | None]:
    """The models of all legs by the names of the legs, as they came in."""
    names = opening_names(len(opening))
    models = dict(zip(names, (leg.model for leg in opening), strict=True))
    return models | {HIGH_NOISE: high_noise, LOW_NOISE: low_noise}


def _legs(guider: RelayGuider) -> list[LegReport]:
    route = guider.route
    return [
        {
            "leg": name,
            "steps": route.steps_of(index),
            "cfg": leg.cfg,
            "from_sigma": route.sigmas[route.starts.index(index)],
            "nag_scale": nag_scale(leg.model_patcher, leg.cfg),
        }
        for index, (name, leg) in enumerate(guider.legs.items())
        if route.steps_of(index)
    ]


def _rounded(guider: RelayGuider, phase: str) -> dict[str, float]:
    names = [*guider.opening, HIGH_NOISE, LOW_NOISE]
    return {name: round(guider.clock.seconds.get(phase.format(name), 0.0), 3) for name in names}


def relay_warnings(guider: RelayGuider, settings: RelaySettings, sigmas: torch.Tensor, kind: str) -> list[str]:
    """Sentences about what works but may not be meant."""
    warnings = []
    if LOW_NOISE in guider.legs:
        warnings += _boundary_warnings(settings, kind)
        high, low = (
            shift_of(guider.legs[name].model_patcher.get_model_object("model_sampling"))
            for name in (HIGH_NOISE, LOW_NOISE)
        )
        if high != low and None not in (high, low):
            warnings.append(
                f"shift 0 keeps the models' own, and these differ: the schedule is made with the high-noise model's "
                f"{high:g}, not with the low-noise model's {low:g}."
            )
    if len(sigmas) - 1 not in (settings.steps, -1):
        warnings.append(f"The {settings.scheduler} scheduler gave {len(sigmas) - 1} steps instead of {settings.steps}.")
    return warnings


def model_warnings(guider: RelayGuider, models: dict[str, Any | None], shift: float) -> list[str]:
    """Sentences about what nodes before this one have put on the models of the legs, as they came in."""
    given = {name: model for name, model in models.items() if model is not None}
    of_nag = [text for name, model in given.items() for text in nag_warnings(model, guider.legs[name].cfg, name)]
    return replaced_shifts(given, shift) + of_nag


def replaced_shifts(models: dict[str, Any], shift: float) -> list[str]:
    """A sentence where a node before this one has put another shift on a model."""
    warnings = []
    for name, model in models.items():
        own = shift_of(model.object_patches.get("model_sampling"))
        if shift and own is not None and own != shift:
            warnings.append(f"shift {shift:g} replaces the {own:g} that is set on {name}; shift 0 keeps it.")
    return warnings


def _boundary_warnings(settings: RelaySettings, kind: str) -> list[str]:
    """A sentence where the boundary is the reference's for the other family."""
    usual = BOUNDARIES.get(kind)
    if usual is None or settings.switch != "boundary" or settings.boundary == usual:
        return []
    if settings.boundary not in BOUNDARIES.values():
        return []
    return [f"boundary is {settings.boundary:g}; the Wan2.2 reference uses {usual:g} for {kind_name(kind)}."]
