"""Frames in between by FFmpeg's minterpolate: block motion on the CPU, without a model."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import torch

from ...rules.errors import FramesMissing
from ...rules.frames.interpolated_frames import interpolated_count

# Overlapped blocks of 16, each frame's motion sought on its own. Of 832x480 frames that pan, zoom and turn, the frames
# in between come to 40.4 dB in 0.1 s of one core a step; blocks of 8 to 41.0, blocks of variable size to 39.4,
# bidirectional search to 39.2 in 0.16 s, other searches to 27 to 40.1, blending to 25.7.
METHOD = "mi_mode=mci:mc_mode=obmc:me_mode=bilat:me=epzs"
STEPS_A_RUN = 8  # whatever the machine, so that the same frames give the same video
MOST_THREADS = 4  # a run holds 260 bytes a pixel: 240 MB at 1280x720
BLOCK = 16
SMALLEST_SIDE = 64

# BT.709 in the full range of 8 bits, the most that the filter takes
RED, BLUE = 0.2126, 0.0722
GREEN = 1 - RED - BLUE
_EXACT = torch.tensor(
    [
        [RED, GREEN, BLUE],
        [-RED / (2 - 2 * BLUE), -GREEN / (2 - 2 * BLUE), 0.5],
        [0.5, -GREEN / (2 - 2 * RED), -BLUE / (2 - 2 * RED)],
    ],
    dtype=torch.float64,
)
TO_YCBCR, TO_RGB = _EXACT.float(), torch.linalg.inv(_EXACT).float()
OFFSET = torch.tensor([0.0, 128.0, 128.0])


def between_by_motion(
    images: torch.Tensor, factor: int, on_steps: Callable[[int], None] = lambda done: None
) -> torch.Tensor:
    """[factor * (frames - 1) + 1, height, width, 3] in 0..1 out of `images` [frames, height, width, 3].

    The images themselves are handed on as they are. Each step between two is cut into `factor` pieces; across a cut the
    nearer image is repeated. `on_steps` is called with the steps that are done, and may raise to stop.
    """
    result = images.new_empty((interpolated_count(len(images), factor), *images.shape[1:]))
    result[::factor] = images
    steps = len(images) - 1
    starts = range(0, steps, STEPS_A_RUN)
    is_inference = torch.is_inference_mode_enabled()  # of this thread alone, and the tensors are of that kind

    def fill(start: int) -> None:
        with torch.inference_mode(is_inference):
            _fill(result, images, factor, start, min(start + STEPS_A_RUN, steps))

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "wan_relay_interpolate") as pool:
        runs = [pool.submit(fill, start) for start in starts]
        try:
            for start, run in zip(starts, runs, strict=True):
                run.result()
                on_steps(min(start + STEPS_A_RUN, steps))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return result


def _fill(result: torch.Tensor, images: torch.Tensor, factor: int, start: int, end: int) -> None:
    """The frames between images `start` and `end`; an image more on either side lets the filter see the motion."""
    first, missing = max(0, start - 1), (end - start) * (factor - 1)
    seen = [*range(first, end + 1), min(end + 1, len(images) - 1)]
    for position, frame in _filtered((images[index] for index in seen), factor, images.shape[1], images.shape[2]):
        index = first * factor + position
        if start * factor < index < end * factor and index % factor:
            result[index] = frame.to(result)
            missing -= 1
    if missing:
        raise FramesMissing(f"FFmpeg's minterpolate left out {missing} frames behind frame {start + 1}.")


def _filtered(
    images: Iterator[torch.Tensor], factor: int, height: int, width: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(number, image) of each frame that comes out of the filter; `factor` numbers are one step."""
    padded = [max(SMALLEST_SIDE, -(-side // BLOCK) * BLOCK) for side in (height, width)]
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=padded[1], height=padded[0], format=av.VideoFormat("yuv444p"), time_base=Fraction(1, 1), name="images"
    )
    motion, sink = graph.add("minterpolate", f"fps={factor}:{METHOD}"), graph.add("buffersink")
    source.link_to(motion)
    motion.link_to(sink)
    graph.configure()
    for number, image in enumerate(images):
        graph.push(_to_planes(image, padded, number))
        yield from _ready(graph, factor, height, width)
    graph.push(None)
    yield from _ready(graph, factor, height, width)


def _ready(graph: av.filter.Graph, factor: int, height: int, width: int) -> Iterator[tuple[int, torch.Tensor]]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        assert frame.pts is not None
        yield int(frame.pts * frame.time_base * factor), _from_planes(frame, height, width)


def _to_planes(image: torch.Tensor, padded: list[int], number: int) -> av.VideoFrame:
    """`image` [height, width, 3] as 8-bit planes, its edges repeated to the right and below."""
    height, width = image.shape[:2]
    values = (image.float().cpu().clamp(0, 1) @ TO_YCBCR.T * 255 + OFFSET).round().clamp(0, 255).to(torch.uint8)
    planes = np.pad(values.numpy(), ((0, padded[0] - height), (0, padded[1] - width), (0, 0)), mode="edge")
    frame = av.VideoFrame(padded[1], padded[0], "yuv444p")
    for channel, plane in enumerate(frame.planes):
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: padded[0], : padded[1]] = planes[..., channel]
    frame.pts, frame.time_base = number, Fraction(1, 1)
    return frame


def _from_planes(frame: av.VideoFrame, height: int, width: int) -> torch.Tensor:
    planes = [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width].copy() for plane in frame.planes
    ]
    values = torch.from_numpy(np.stack(planes, -1)).float()
    return ((values - OFFSET) / 255 @ TO_RGB.T).clamp(0, 1)
