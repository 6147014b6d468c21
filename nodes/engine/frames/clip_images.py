"""What is connected to Prepare Latent -> the frames that are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ...rules.errors import InvalidInput
from ...rules.frames.frame_count import FRAMES_PER_LATENT
from ...rules.frames.timeline import DEFAULT_OVERLAP, FramePlan, Given
from .known_frames import KnownFrames
from .resize_image import check_image
from .wan_vae import WAN_2_1


@dataclass(frozen=True)
class Keyframe:
    """A picture, IMAGE [1, H, W, C], and the frame that it is to be; negative numbers count from the end."""

    image: torch.Tensor
    frame: int


@dataclass(frozen=True)
class ClipImages:
    """Every input that brings frames, each [N, H, W, 3] or a latent [B, 16, T, h, w], and how they are to be used."""

    start_image: torch.Tensor | None = None
    end_image: torch.Tensor | None = None
    previous: torch.Tensor | None = None
    anchor: torch.Tensor | None = None
    previous_latent: torch.Tensor | None = None
    keyframes: tuple[Keyframe, ...] = ()
    overlap: int = DEFAULT_OVERLAP
    padding: str = "grey"
    loop: bool = False

    @classmethod
    def checked(
        cls,
        images: dict[str, Any],
        previous_latent: dict[str, Any] | None = None,
        keyframes: tuple[Keyframe, ...] = (),
        **settings: Any,
    ) -> tuple[ClipImages, list[str]]:
        """From inputs of ComfyUI's types IMAGE (None: not connected) and LATENT, with a sentence for what was dropped.

        Raises InvalidInput for what is not an IMAGE, and for several where one is meant.
        """
        warnings: list[str] = []
        frames: dict[str, Any] = {}
        for name, image in images.items():
            if image is not None:
                frames[name], said = check_image(name, image)
                warnings += said
        if "anchor" in frames and len(frames["anchor"]) > 1:
            warnings.append(f"anchor has {len(frames['anchor'])} images; the first is used.")
            frames["anchor"] = frames["anchor"][:1]
        placed = []
        for keyframe in keyframes:
            image, said = check_image(f"keyframe {keyframe.frame}", keyframe.image)
            if len(image) > 1:
                raise InvalidInput(f"keyframe {keyframe.frame} must be one image, got {len(image)}.")
            placed.append(Keyframe(image, keyframe.frame))
            warnings += said
        latent = None if previous_latent is None else _check_latent(previous_latent)
        return cls(previous_latent=latent, keyframes=tuple(placed), **frames, **settings), warnings

    @property
    def given(self) -> Given:
        """How much of each there is."""

        def count(frames: torch.Tensor | None, axis: int = 0) -> int:
            return 0 if frames is None else frames.shape[axis]

        return Given(
            start_image=count(self.start_image),
            end_image=count(self.end_image),
            previous=count(self.previous),
            previous_latent=count(self.previous_latent, axis=2),
            anchor=count(self.anchor),
            keyframes=tuple(keyframe.frame for keyframe in self.keyframes),
            overlap=self.overlap,
            padding=self.padding,
            loop=self.loop,
        )

    def placed(self, plan: FramePlan) -> KnownFrames:
        """The same pictures where `plan` = plan_frames(self.given, ...) puts them."""
        known = KnownFrames(
            start=self.start_image,
            end=self.end_image,
            keyframes={frame: each.image for frame, each in zip(plan.keyframes, self.keyframes, strict=True)},
            padding=self.padding,
            reference=self.anchor,
        )
        if self.loop and self.start_image is not None:
            known = replace(known, end=self.start_image[:1], end_name="start_image")
        elif self.loop and self.end_image is not None:
            known = replace(known, end=self.end_image[:1])
        last_frames = None if self.previous is None else self.previous[-plan.overlap :]
        if self.given.is_anchored:
            latents = (plan.overlap - 1) // FRAMES_PER_LATENT
            last = last_frames if self.previous_latent is None else self.previous_latent[:, :, -latents:]
            return replace(known, start=self.anchor, start_name="anchor", reference=None, motion=last)
        if last_frames is not None:
            return replace(known, start=last_frames, start_name="previous")
        return known


def _check_latent(latent: dict[str, Any]) -> torch.Tensor:
    samples = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim != 5 or samples.shape[1] != WAN_2_1.latent_channels:
        shape = "a nested one" if getattr(samples, "is_nested", False) else f"one of {tuple(samples.shape)}"
        raise InvalidInput(f"previous_latent must be a video latent of an A14B model with 16 channels, not {shape}.")
    return samples
