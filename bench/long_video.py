"""What a long video costs in memory, and what its joins look like: `dev.py bench long_video`.

Part 1, memory: 2 and 20 segments are joined and encoded as a video, each number in a process of its own, with all kept
that ComfyUI's cache would keep; a VAE's own memory is left out: frames stand in for what it decodes. Printed: the most
memory that is the process's alone (RssAnon) above what it held before, and the pages of files (RssFile), which the
kernel takes back when it needs them. The ratio of the first stays under LIMIT.

Part 2, joins: five segments by the toy family that pan, and five that stand still, joined with their colours matched
and without, each chain going on from its own last frame. Printed: how far the picture goes in four frames and in eight
with a join in their middle, against the same inside a segment (single steps say little: the decoder bunches the motion
of each four frames), and how far the mean colour of the last segment is from that of the first.
"""

import argparse
import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import comfy.utils
import cv2
import numpy as np
import torch

from ..nodes.engine.frames.image_conditioning import condition_on_images
from ..nodes.engine.frames.known_frames import Clip, KnownFrames
from ..nodes.engine.frames.wan_vae import recognise_wan_vae
from ..nodes.engine.video.colour_drift import CLIP_BEFORE, COLOUR_REFERENCES
from ..nodes.engine.video.joined_clip import JoinedClip
from ..nodes.engine.video.long_clip import LongClip, add_segment
from ..nodes.engine.video.video_file import VideoSpec, encode_video
from ..nodes.engine.video.video_format import video_format
from ..toy.family import ensure_family
from ..toy.training import data, quality
from . import in_fresh_process, memory_mb

NUM_SEGMENTS, OVERLAP, STEPS = 5, 1, 4
NOT_MATCHED = "not matched"
LIMIT = 1.3
HEIGHT, WIDTH = 96, 128
FRAMES_SHAPE = (81, 192, 256, 3)  # 48 MB a segment, 950 MB in all


class Peak(NamedTuple):
    own_mb: float
    file_mb: float


@contextmanager
def watched(peaks: dict[str, float]) -> Iterator[None]:
    """Notes the most of RssAnon and RssFile, every 20 milliseconds."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for field in ("RssAnon", "RssFile"):
                peaks[field] = max(peaks.get(field, 0.0), memory_mb(field))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


class Decoder:
    """In a VAE's place: the same frames each time, in memory of their own."""

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        return torch.rand((1, *FRAMES_SHAPE), generator=torch.Generator().manual_seed(1))


def long_run(num_segments: int, path: Path) -> Peak:
    """Joins and encodes so many segments."""
    latent, vae = {"samples": torch.zeros(1, 16, 21, 24, 32)}, Decoder()
    add_segment(latent, vae, None, None, OVERLAP, "drop", True)
    before = memory_mb("RssAnon")
    peaks: dict[str, float] = {}
    with watched(peaks):
        clip: LongClip | None = None
        kept = []
        for _ in range(num_segments):
            clip = add_segment(latent, vae, None, clip, OVERLAP, "drop", True)
            kept.append((clip, clip.joined.tail))
        assert clip is not None
        images = clip.joined.images()
        encode_video(path, images, VideoSpec(video_format("mp4 h264"), Fraction(16), 30, preset="fast"))
    return Peak(peaks["RssAnon"] - before, peaks["RssFile"])


@torch.inference_mode()
def chain(family: quality.Family, pair: quality.Pair, move: str, num_frames: int, colours: str) -> torch.Tensor:
    """[frames, height, width, 3] of NUM_SEGMENTS segments that go on from each other's last frame.

    `colours` is NOT_MATCHED or a colour_reference.
    """
    picture = data.make_clip(data.HELD_OUT_SEED + 3, num_frames, HEIGHT, WIDTH, (move,)).frames[:1]
    tail = picture.permute(0, 2, 3, 1).contiguous()
    kind, size = recognise_wan_vae(family.vae), Clip(WIDTH, HEIGHT, num_frames, batch_size=1, fit="crop")
    words, empty = (family.clip.encode_from_tokens_scheduled(family.clip.tokenize(text)) for text in (move, ""))
    matching = (False, CLIP_BEFORE) if colours == NOT_MATCHED else (True, colours)
    joined: JoinedClip | None = None
    for number in range(NUM_SEGMENTS):
        positive, negative, latent = condition_on_images(words, empty, family.vae, kind, KnownFrames(tail), size)
        example = quality.Example(move, tail[None], latent["samples"], positive, negative)
        frames = family.decode(quality.generate(pair, example, STEPS, seed=number))[0]
        if joined is None:
            joined = JoinedClip.of(frames, OVERLAP, *matching)
        else:
            joined = joined.followed_by(frames, "drop", *matching)
        tail = joined.tail
    assert joined is not None
    return joined.images()


def moved(frames: torch.Tensor, apart: int) -> np.ndarray:
    """How far the picture goes to the right from each frame to the one `apart` frames later, in pixels: the median of
    its optical flow over the inner two thirds.
    """
    codes = (255 * frames.clamp(0, 1)).to(torch.uint8).numpy()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in codes]
    found = []
    for before, after in zip(grey, grey[apart:], strict=False):
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 4, 25, 3, 7, 1.5, 0)  # type: ignore[call-overload]
        rows, columns = (slice(side // 6, -(side // 6)) for side in flow.shape[:2])
        found.append(np.median(flow[rows, columns, 0]))
    return np.array(found)


def around_joins(frames: torch.Tensor, step: int, apart: int) -> tuple[float, float]:
    """How far the picture goes in `apart` frames: the mean where no join is among them, and where one is amid them."""
    seen = moved(frames, apart)
    joins = range(step, len(frames) - 1, step)
    has_none = [all(not start < join < start + apart for join in joins) for start in range(len(seen))]
    return seen[has_none].mean(), seen[[join - apart // 2 for join in joins]].mean()


def print_joins(family: quality.Family, num_frames: int, out: Path | None) -> None:
    pair = family.pair("_4step")
    print(f"\n{NUM_SEGMENTS} segments of {num_frames} frames of {WIDTH}x{HEIGHT}, toy family, {STEPS} steps")
    print(
        "| move | colours matched | in 4 frames inside, at the joins | in 8 | last segment's colour less the first's |"
    )
    print("|---|---|---|---|---|")
    for move in ("pan left", "still"):
        for colours in (NOT_MATCHED, *COLOUR_REFERENCES):
            frames = chain(family, pair, move, num_frames, colours)
            if out:
                torch.save(frames.clone(), out / f"{move}_{colours}.pt")
            step = num_frames - OVERLAP
            means = 255 * torch.stack([frames[n * step : (n + 1) * step].mean((0, 1, 2)) for n in range(NUM_SEGMENTS)])
            drift = ", ".join(f"{value:+.2f}" for value in (means[-1] - means[0]).tolist())
            went = " | ".join("{:.2f}, {:.2f}".format(*around_joins(frames, step, apart)) for apart in (4, 8))
            print(f"| {move} | {colours} | {went} | {drift} of 255 |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, help="part 1 alone, with so many segments, as JSON")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--out", type=Path, help="a folder for the frames of part 2, as tensors")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        if options.segments:
            print(json.dumps(long_run(options.segments, Path(folder) / "long.mp4")))
            return
        two, twenty = (Peak(*in_fresh_process("long_video", "--segments", number)) for number in (2, 20))
        print("| segments | memory of its own, MB | pages of files, MB |\n|---|---|---|")
        for number, peak in ((2, two), (20, twenty)):
            print(f"| {number} | {peak.own_mb:.0f} | {peak.file_mb:.0f} |")
        print(f"ratio {twenty.own_mb / two.own_mb:.3f}, limit {LIMIT}", flush=True)
        ensure_family(Path(folder))
        print_joins(quality.Family(Path(folder)), options.frames, options.out)


if __name__ == "__main__":
    main()
