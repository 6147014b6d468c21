"""Reads videos back for the tests, as a careful player does: by the file's own tags, rounded."""

from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation

ROUNDED = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


def read_images(path: Path) -> torch.Tensor:
    """[frames, height, width, 3] floats in 0..1."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24", interpolation=ROUNDED) for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).float() / 255


def read_alpha(path: Path) -> np.ndarray:
    """[frames, height, width] codes of a VP9 file; FFmpeg's own VP9 decoder does not see alpha, libvpx does."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        frames = [frame for packet in container.demux(video=0) for frame in decoder.decode(packet)]
    planes = [np.frombuffer(frame.planes[3], np.uint8).reshape(-1, frame.planes[3].line_size) for frame in frames]
    return np.stack([plane[: frame.height, : frame.width] for plane, frame in zip(planes, frames, strict=True)])


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """[channels, samples] floats and the sample rate."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp")
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), frames[0].sample_rate
