"""The clip that is to be made, and its frames that are known before: a start, an end, both or neither."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.frame_count import FRAMES_PER_LATENT, latent_frames
from ...rules.frames.frame_size import describe_placement
from .resize_image import check_image, fit_frames
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


@dataclass(frozen=True)
class KnownFrames:
    """RGB frames [N, H, W, 3] that open the clip and that close it, each in a size of its own."""

    start: torch.Tensor | None = None
    end: torch.Tensor | None = None

    @classmethod
    def from_images(
        cls, start_image: torch.Tensor | None, end_image: torch.Tensor | None
    ) -> tuple[KnownFrames, list[str]]:
        """From two inputs of ComfyUI's IMAGE type, with a sentence for what was dropped or clamped.

        Raises InvalidInput for what is not an IMAGE.
        """
        images, warnings = [], []
        for name, image in (("start_image", start_image), ("end_image", end_image)):
            frames, said = (None, []) if image is None else check_image(name, image)
            images.append(frames)
            warnings += said
        return cls(*images), warnings

    @property
    def by_name(self) -> dict[str, torch.Tensor]:
        """What there is, by the name of its input; the first is the one whose size counts."""
        both = {"start_image": self.start, "end_image": self.end}
        return {name: frames for name, frames in both.items() if frames is not None}

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
                f"length {length} must hold start_image and end_image, but they have {num_start} and {num_end} frames."
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
        return KnownFrames(start, end), warnings

    def fit_changes(self, clip: Clip) -> dict[str, list[str]]:
        """What `clip.fit` does to each picture, in sentences, by the name of its input."""
        return {
            name: describe_placement(name, (frames.shape[2], frames.shape[1]), clip.width, clip.height, clip.fit)
            for name, frames in self.by_name.items()
        }

    def on_canvas(self, clip: Clip) -> torch.Tensor:
        """The whole clip [length, height, width, 3], grey where nothing is known."""
        canvas = clip.canvas(clip.length)
        if self.start is not None:
            fit_frames(self.start, canvas[: self.num_start], clip.fit, clip.crop_position)
        if self.end is not None:
            fit_frames(self.end, canvas[-self.num_end :], clip.fit, clip.crop_position)
        return canvas

    def mask(self, clip: Clip, kind: WanVae) -> torch.Tensor:
        """ComfyUI's concat_mask [1, 4, T, h, w], 0 = known; the network sees it inverted, 1 = known.

        The channel is the pixel frame inside the latent frame. Pixel frame 0 fills all four channels of latent
        frame 0, so frame i > 0 sits at place i + 3, and a single end image in channel 3 of the last latent frame.
        """
        places = latent_frames(clip.length) * FRAMES_PER_LATENT
        unknown = torch.ones(places)
        if self.num_start:
            unknown[: self.num_start + FRAMES_PER_LATENT - 1] = 0
        if self.num_end:
            unknown[places - self.num_end :] = 0
        mask = unknown.view(1, -1, FRAMES_PER_LATENT, 1, 1).transpose(1, 2)
        return mask.repeat(1, 1, 1, clip.height // kind.stride, clip.width // kind.stride)
