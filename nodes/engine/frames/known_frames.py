"""The clip that is to be made, and its frames that are known before: a start, an end, some between, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import comfy.model_management
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.frame_count import FRAMES_PER_LATENT, latent_frames
from ...rules.frames.frame_size import describe_placement
from .resize_image import fit_frames
from .wan_vae import WanVae

GREY = 0.5  # zero in the network's range of -1 to 1, as in the reference


@dataclass(frozen=True)
class Clip:
    """The frames to be made: `width` x `height` pixels, `length` = 4n+1 frames, `batch_size` videos."""

    width: int
    height: int
    length: int
    batch_size: int
    fit: str
    crop_position: str = "center"

    def empty_latent(self, kind: WanVae, batch_size: int) -> torch.Tensor:
        """Zeros of [batch_size, channels, latent frames, height / stride, width / stride]."""
        shape = (
            batch_size,
            kind.latent_channels,
            latent_frames(self.length),
            self.height // kind.stride,
            self.width // kind.stride,
        )
        return torch.zeros(shape, device=comfy.model_management.intermediate_device())

    def canvas(self, num_frames: int) -> torch.Tensor:
        """Grey pixels of [num_frames, height, width, 3]."""
        shape = (num_frames, self.height, self.width, 3)
        return torch.full(shape, GREY, dtype=comfy.model_management.intermediate_dtype())

    def lay(self, frames: torch.Tensor, canvas: torch.Tensor) -> None:
        """Put `frames` [N, H, W, 3] of any size onto `canvas` [N, height, width, 3] as this clip fits pictures."""
        fit_frames(frames, canvas, self.fit, self.crop_position)


@dataclass(frozen=True)
class KnownFrames:
    """RGB frames [N, H, W, 3] that open the clip and that close it, each in its own size, and what stands elsewhere.

    `keyframes` are single frames by their number. `padding` says what the unknown frames show; for "reference" that is
    `reference` [1, H, W, 3], without one the first frame. `motion` is the end of the clip before, which takes the
    latent frames behind the first: frames [4k+1, H, W, 3], or k latent frames [B, 16, k, h, w] out of a sampler.
    """

    start: torch.Tensor | None = None
    end: torch.Tensor | None = None
    start_name: str = "start_image"
    end_name: str = "end_image"
    keyframes: Mapping[int, torch.Tensor] = field(default_factory=dict)
    padding: str = "grey"
    reference: torch.Tensor | None = None
    motion: torch.Tensor | None = None

    @property
    def by_name(self) -> dict[str, torch.Tensor]:
        """What there is, by the name of its input; the first is the one whose size counts."""
        pictures = {
            "previous": self.motion if self.motion is not None and self.motion.ndim == 4 else None,
            self.start_name: self.start,
            "anchor": self.start if self.start_name == "anchor" else self.reference,
            self.end_name: self.end,
            **{f"keyframe {frame}": image for frame, image in self.keyframes.items()},
        }
        return {name: frames for name, frames in pictures.items() if frames is not None}

    @property
    def num_start(self) -> int:
        return 0 if self.start is None else len(self.start)

    @property
    def num_end(self) -> int:
        return 0 if self.end is None else len(self.end)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(width, height) of the start frames, without them of the end frames."""
        return next(((frames.shape[2], frames.shape[1]) for frames in self.by_name.values()), None)

    def within(self, length: int) -> tuple[KnownFrames, list[str]]:
        """The frames that fit into `length`, and what was left out, in sentences.

        Raises InvalidInput where start and end frames would overlap.
        """
        start, end, num_start, num_end = self.start, self.end, self.num_start, self.num_end
        if num_start and num_end and num_start + num_end > length:
            raise InvalidInput(
                f"length {length} must hold {self.start_name} and {self.end_name}, "
                f"but they have {num_start} and {num_end} frames."
            )
        warnings = []
        if start is not None and num_start > length:
            start = start[:length]
            warnings.append(f"start_image has {num_start} frames; the first {length} are used.")
        if end is not None and num_end > length:
            end = end[-length:]
            warnings.append(f"end_image has {num_end} frames; the last {length} are used.")
        if max(num_start, num_end, num_start + num_end) >= length > 1:
            warnings.append("Every frame is given, so nothing is left for the model to make.")
        return replace(self, start=start, end=end), warnings

    def fit_changes(self, clip: Clip) -> dict[str, list[str]]:
        """What `clip.fit` does to each picture, in sentences, by the name of its input."""
        return {
            name: describe_placement(name, (frames.shape[2], frames.shape[1]), clip.width, clip.height, clip.fit)
            for name, frames in self.by_name.items()
        }

    def on_canvas(self, clip: Clip) -> torch.Tensor:
        """The whole clip [length, height, width, 3], grey or the reference where nothing is known."""
        canvas = clip.canvas(clip.length)
        reference = self.start if self.reference is None else self.reference
        if self.padding == "reference" and reference is not None:
            clip.lay(reference[:1], canvas[:1])
            canvas[1:] = canvas[:1]
        for frame, image in self.keyframes.items():
            clip.lay(image, canvas[frame : frame + 1])
        if self.start is not None:
            clip.lay(self.start, canvas[: self.num_start])
        if self.end is not None:
            clip.lay(self.end, canvas[-self.num_end :])
        return canvas

    def mask(self, clip: Clip, kind: WanVae) -> torch.Tensor:
        """ComfyUI's concat_mask [1, 4, T, h, w], 0 = known; the network sees it inverted, 1 = known.

        The channel is the pixel frame inside the latent frame. Pixel frame 0 fills all four channels of latent
        frame 0, so frame i > 0 sits at place i + 3, and a single end image in channel 3 of the last latent frame.
        """
        mask = self._unknown_places(clip).view(1, -1, FRAMES_PER_LATENT, 1, 1).transpose(1, 2)
        return mask.repeat(1, 1, 1, clip.height // kind.stride, clip.width // kind.stride)

    def known_latents(self, clip: Clip) -> torch.Tensor:
        """[T], true for each latent frame that holds a known frame."""
        return (self._unknown_places(clip).view(-1, FRAMES_PER_LATENT) == 0).any(dim=1)

    def _unknown_places(self, clip: Clip) -> torch.Tensor:
        """[4 T], 0 for the known frames; the first frame has four places."""
        places = latent_frames(clip.length) * FRAMES_PER_LATENT
        unknown = torch.ones(places)
        if self.num_start:
            unknown[: self.num_start + FRAMES_PER_LATENT - 1] = 0
        if self.num_end:
            unknown[places - self.num_end :] = 0
        for frame in self.keyframes:
            unknown[frame + FRAMES_PER_LATENT - 1 if frame else 0 : frame + FRAMES_PER_LATENT] = 0
        return unknown
