"""Whether ComfyUI's Load Image would make a whole picture of a file. Runs in the environment.

Load Image asks FFmpeg, and Pillow where FFmpeg finds no frame. A picture must be whole for one of them: what is wrong
beside the pixels stops only the other. FFmpeg's first frame says nothing of how an animation ends.
"""

from __future__ import annotations

from pathlib import Path

import av
from PIL import Image

from .processes import DevError

MIN_SIDE = 16


def check_image(path: Path) -> None:
    """Raises DevError for a file of which ComfyUI would not make a whole image, or one too small to be a frame."""
    try:
        width, height = _size(path)
    except Exception as error:  # Pillow's decoders raise nearly anything
        reason = str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise DevError(f"{path} is not an image that can be read: {reason}.") from None
    if min(width, height) < MIN_SIDE:
        raise DevError(f"{path} is {width} x {height} pixels; expected at least {MIN_SIDE} x {MIN_SIDE}.")


def _size(path: Path) -> tuple[int, int]:
    by_pillow: tuple[int, int] | None = None
    reason: Exception = ValueError("ComfyUI cannot open this format")
    try:
        by_pillow = _size_by_pillow(path)
    except Exception as error:
        reason = error
    try:
        by_ffmpeg = _size_by_ffmpeg(path)
    except (av.FFmpegError, IndexError, TypeError):
        raise reason from None  # Load Image gives up too, whatever Pillow could read
    size = by_pillow or by_ffmpeg
    if size is None:
        raise reason
    return size


def _size_by_pillow(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        if image.mode in ("I", "F"):
            raise ValueError("ComfyUI makes pixels of 32 bits black or white")
        return image.size


def _size_by_ffmpeg(path: Path) -> tuple[int, int] | None:
    """None for a picture that FFmpeg opens and finds damaged, and for an animation."""
    with av.open(str(path)) as file:
        file.streams.video[0].codec_context.options = {"err_detect": "explode"}
        try:
            frame = next(file.decode(video=0))
        except (av.error.InvalidDataError, StopIteration):
            return None
        if frame.pts is None:
            raise TypeError
        is_still = file.format.name == "image2" or file.format.name.endswith("_pipe")
        return (frame.width, frame.height) if is_still else None
