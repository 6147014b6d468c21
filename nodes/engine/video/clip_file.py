"""Frames that lie in a file and not in memory, and are IMAGE tensors all the same."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from math import prod
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import torch

from ...rules.errors import InvalidInput, VideoNotSaved

FREE_BYTES = 500_000_000  # that stay free on the disk
AT_ONCE = 8  # frames that are worked on together


class ClipFile:
    """A growing file of frames [height, width, 3] in ComfyUI's temp folder.

    It has no name from the beginning (on Windows: until it is closed), so that nothing is left of it once no tensor
    shows its frames any more, whatever ends the process. Frames are only ever added: a tensor that was given out keeps
    its content.
    """

    def __init__(self, frame_shape: tuple[int, int, int], dtype: torch.dtype | None = None) -> None:
        self.frame_shape = frame_shape
        self.dtype = dtype or comfy.model_management.intermediate_dtype()
        self.num_frames = 0
        folder = folder_paths.get_temp_directory()
        os.makedirs(folder, exist_ok=True)
        self._folder = folder
        self._file: Any = tempfile.TemporaryFile(dir=folder, prefix="wan_relay_", buffering=0)  # noqa: SIM115

    @property
    def frame_bytes(self) -> int:
        return prod(self.frame_shape) * self.dtype.itemsize

    def append(self, frames: torch.Tensor) -> None:
        """Adds [N, height, width, 3]. Raises VideoNotSaved where the disk is full."""
        self._check_space(len(frames))
        self._file.seek(self.num_frames * self.frame_bytes)
        for some in frames.split(AT_ONCE):
            pixels = some.to(device="cpu", dtype=self.dtype).contiguous().view(torch.uint8).numpy()
            left = memoryview(pixels.reshape(-1))
            while left:
                left = left[self._write(left) :]
        self.num_frames += len(frames)

    def copy(self, num_frames: int) -> ClipFile:
        """Another file with the first of the frames."""
        twin = ClipFile(self.frame_shape, self.dtype)
        for some in self.frames(num_frames).split(AT_ONCE) if num_frames else ():
            twin.append(some)
        return twin

    def frames(self, num_frames: int) -> torch.Tensor:
        """The first of the frames, [num_frames, height, width, 3]: pages of the file, which no memory is kept for."""
        if not 1 <= num_frames <= self.num_frames:
            raise InvalidInput(f"There are {self.num_frames} frames; {num_frames} were asked for.")
        mapped = mmap.mmap(self._file.fileno(), num_frames * self.frame_bytes)
        codes = torch.from_numpy(np.frombuffer(mapped, dtype=np.uint8))
        return codes.view(self.dtype).view(num_frames, *self.frame_shape)

    def _write(self, pixels: memoryview) -> int:
        comfy.model_management.throw_exception_if_processing_interrupted()
        try:
            return int(self._file.write(pixels))
        except OSError as error:
            raise VideoNotSaved(f"The frames could not be kept in the temp folder: {error.strerror}.") from error

    def _check_space(self, num_frames: int) -> None:
        needed, free = num_frames * self.frame_bytes, shutil.disk_usage(self._folder).free
        if free < needed + FREE_BYTES:
            raise VideoNotSaved(
                f"{num_frames} frames need {needed / 1e6:.0f} MB in the temp folder, on which {free / 1e6:.0f} MB are "
                f"free; {FREE_BYTES / 1e6:.0f} MB must stay free."
            )
