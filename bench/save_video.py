"""How fast, how large and how true to colour WanRelay_SaveVideo writes: `python3 dev.py bench save_video`.

Four ways to save the same frames as h264, crf 19, preset medium:

- ours    engine.video_file: conversion and encoding overlap, fsync and rename included
- core    ComfyUI's own Save Video (VideoFromComponents.save_to)
- pipe    frames as rounded 8-bit RGB into an `ffmpeg` process with the options of VideoHelperSuite's video/h264-mp4
          (left out where no ffmpeg is installed)
- floor   libx264 through PyAV with the options of ours, fed with yuv420p frames: what encoding alone costs

Times are wall-clock and CPU seconds, compared in rounds: each round runs all four after one another, and the ratio
printed is the median of the rounds' ratios. Memory is the extra peak of a fresh process over what it held with the
frames loaded.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace, Interpolation
from comfy_api.latest import InputImpl, Types

from ..nodes.engine.files.whole_file import save_whole
from ..nodes.engine.video.colour import PlaneConverter
from ..nodes.engine.video.video_file import VideoSpec, encode_video, frames_of
from ..nodes.engine.video.video_format import video_format
from . import forget_peak, in_fresh_process, memory_mb

RATE = Fraction(16)
CRF = 19
ROUNDED = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
FFMPEG = shutil.which("ffmpeg") or ""


def moving_scene(num_frames: int, width: int, height: int) -> torch.Tensor:
    """[frames, height, width, 3]: soft colour shapes and fine texture that drift, roughly as hard as a real clip."""
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(1, 3, height // 40 + 8, width // 40 + 8, generator=generator)
    margin = 64
    size = (height + margin, width + margin)
    soft = torch.nn.functional.interpolate(soft, size=size, mode="bicubic")
    fine = torch.nn.functional.avg_pool2d(torch.randn(1, 1, size[0] + 2, size[1] + 2, generator=generator), 3, 1)
    scene = (soft + 0.06 * fine).clamp(0, 1)[0].permute(1, 2, 0)
    grain = 0.01 * torch.randn(height, width, 1, generator=generator)
    images = torch.empty(num_frames, height, width, 3)
    for index in range(num_frames):
        x, y = round(margin / 2 + 30 * _wave(index / 40)), round(margin / 2 + 30 * _wave(index / 55))
        images[index] = (scene[y : y + height, x : x + width] + grain.roll(index * 7, 0)).clamp_(0, 1)
    return images


def _wave(turns: float) -> float:
    return float(torch.sin(torch.tensor(2 * torch.pi * turns)))


def save_ours(images: torch.Tensor, folder: Path) -> Path:
    spec = VideoSpec(video_format("mp4 h264"), RATE, CRF)
    return save_whole(folder, lambda n: f"ours_{n}.mp4", 1, lambda path: encode_video(path, images, spec))


def save_core(images: torch.Tensor, folder: Path, crf: int = CRF) -> Path:
    path = folder / "core.mp4"
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=None, frame_rate=RATE))
    video.save_to(str(path), format=Types.VideoContainer.MP4, codec=Types.VideoCodec.H264, crf=crf)
    return path


def save_through_pipe(
    images: torch.Tensor, folder: Path, crf: int = CRF, when_fed: Callable[[int], None] = lambda pid: None
) -> Path:
    path = folder / "pipe.mp4"
    height, width = images.shape[1:3]
    command = [FFMPEG, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-color_range", "pc"]
    command += ["-colorspace", "rgb", "-color_primaries", "bt709", "-color_trc", "bt709"]
    command += ["-s", f"{width}x{height}", "-r", str(float(RATE)), "-i", "-", "-c:v", "libx264"]
    command += ["-pix_fmt", "yuv420p", "-crf", str(crf), "-vf", "scale=out_color_matrix=bt709", "-color_range", "tv"]
    command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", str(path)]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert encoder.stdin
    for image in images:
        encoder.stdin.write((image * 255 + 0.5).clamp(0, 255).to(torch.uint8).numpy().tobytes())
    when_fed(encoder.pid)
    encoder.stdin.close()
    if encoder.wait():
        raise SystemExit("ffmpeg failed")
    return path


def _ffmpeg_version() -> str:
    text = subprocess.run([FFMPEG, "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    return " ".join(text.split()[:3])


def ready_frames(images: torch.Tensor) -> list[av.VideoFrame]:
    height, width, channels = images.shape[1:]
    return list(frames_of(images, range(len(images)), PlaneConverter(width, height, channels), "yuv420p"))


def save_floor(frames: list[av.VideoFrame], folder: Path) -> Path:
    path = folder / "floor.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        video.options = {**video_format("mp4 h264").options, "crf": str(CRF)}
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, 1 / RATE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def compare_times(images: torch.Tensor, rounds: int, folder: Path) -> None:
    frames = ready_frames(images)
    ways: dict[str, Callable[[], Path]] = {
        "ours": lambda: save_ours(images, folder),
        "core": lambda: save_core(images, folder),
        "floor": lambda: save_floor(frames, folder),
    }
    if FFMPEG:
        ways["pipe"] = lambda: save_through_pipe(images, folder)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    size_kb = {}
    for number in range(rounds + 1):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            wall, cpu = time.perf_counter(), _cpu_seconds()
            path = ways[name]()
            took = (time.perf_counter() - wall, _cpu_seconds() - cpu)
            size_kb[name] = path.stat().st_size // 1000
            path.unlink()
            if number:  # the first round warms up
                taken[name].append(took)
    print(f"{'':8}{'s':>8}{'ours / it':>11}{'range':>13}{'CPU s':>9}{'ours / it':>11}{'range':>13}{'kB':>9}")
    for name, times in taken.items():
        cells = ""
        for clock in (0, 1):
            ratios = sorted(ours[clock] / it[clock] for ours, it in zip(taken["ours"], times, strict=True))
            median_s = statistics.median(it[clock] for it in times)
            spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
            cells += f"{median_s:{8 + clock}.2f}{statistics.median(ratios):11.3f}{spread:>13}"
        print(f"{name:8}{cells}{size_kb[name]:9}")


def _cpu_seconds() -> float:
    """Of this process, all its threads, and its ended children."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def measure_memory(way: str, num_frames: int, width: int, height: int) -> None:
    """In a fresh process: print the extra peak in MB while saving. The peak counter is reset first."""
    images = moving_scene(num_frames, width, height)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_ours(images[:2], folder)
        frames = ready_frames(images) if way == "floor" else []
        children: list[float] = []
        before = forget_peak()
        if way == "ours":
            save_ours(images, folder)
        elif way == "core":
            save_core(images, folder)
        elif way == "floor":
            save_floor(frames, folder)
        else:
            save_through_pipe(images, folder, when_fed=lambda pid: children.append(memory_mb("VmHWM", pid)))
        extra = memory_mb("VmHWM") - before + sum(children)
    print(json.dumps(extra))


def compare_memory(cases: list[tuple[str, int, int, int]]) -> None:
    if not Path("/proc/self/clear_refs").exists():
        print("memory: measured on Linux only")
        return
    print(f"{'':8}{'frames':>8}{'size':>12}{'extra peak MB':>16}")
    for way, num_frames, width, height in cases:
        extra = in_fresh_process("save_video", "--memory-of", way, num_frames, width, height)
        print(f"{way:8}{num_frames:8}{width:>7}x{height:<4}{extra:16.0f}")


def colour_chart() -> tuple[torch.Tensor, torch.Tensor]:
    """[3, 144, 256, 3]: corners of the RGB cube, greys, a grey and a colour gradient; and what lies off their edges."""
    chart, inside = torch.zeros(144, 256, 3), torch.zeros(144, 256, dtype=torch.bool)
    for k in range(8):
        chart[0:32, k * 32 : k * 32 + 32] = torch.tensor([float(k >> bit & 1) for bit in (2, 1, 0)])
        chart[32:64, k * 32 : k * 32 + 32] = k / 7
        for top in (0, 32):
            inside[top + 8 : top + 24, k * 32 + 8 : k * 32 + 24] = True
    ramp = torch.linspace(0, 1, 256)
    chart[64:104] = ramp[None, :, None]
    chart[104:144] = torch.stack([ramp, 1 - ramp, 0.5 + 0.5 * ramp], -1)
    inside[72:96], inside[112:136] = True, True
    return chart.expand(3, -1, -1, -1), inside


def read_rounded(path: Path, **colours: int) -> torch.Tensor:
    """As a careful player reads: by the tags of the file, rounded."""
    options = {"format": "rgb24", "interpolation": ROUNDED} | colours
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(**options) for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).float() / 255


def read_as_hd(path: Path) -> torch.Tensor:
    """As players read HD without looking at tags: BT.709."""
    return read_rounded(path, src_colorspace=Colorspace.ITU709)


def read_as_core(path: Path) -> torch.Tensor:
    """As core's Load Video reads: by the tags, but with swscale's default, which rounds down."""
    return InputImpl.VideoFromFile(str(path)).get_components().images


def compare_colours(folder: Path) -> None:
    chart, inside = colour_chart()

    def ours(images: torch.Tensor, bit_depth: int = 8) -> Path:
        path = folder / "chart.mp4"
        encode_video(path, images, VideoSpec(video_format("mp4 h264"), RATE, 8, bit_depth))
        return path

    ways: dict[str, Callable[[torch.Tensor], Path]] = {
        "ours": ours,
        "ours 10": lambda images: ours(images, 10),
        "core": lambda images: save_core(images, folder, 8),
    }
    if FFMPEG:
        ways["pipe"] = lambda images: save_through_pipe(images, folder, 8)
    print("colours of a chart at crf 8: error of 255, mean and largest, and the mean with its sign (drift)")
    print(f"{'':8}{'read':>10}{'once':>8}{'':>6}{'drift':>8}{'three times':>14}{'':>6}{'drift':>8}")
    for read_name, read in (("by tags", read_rounded), ("as HD", read_as_hd), ("by core", read_as_core)):
        for name, save in ways.items():
            images, cells = chart, ""
            for turn in (1, 2, 3):
                images = read(save(images))
                error = ((images[1] - chart[1]) * 255)[inside]
                if turn != 2:
                    cells += (
                        f"{error.abs().mean():{8 if turn == 1 else 14}.2f}{error.abs().max():6.1f}{error.mean():8.2f}"
                    )
            print(f"{name:8}{read_name:>10}{cells}")


def main() -> None:
    options = argparse.ArgumentParser(prog="bench.save_video", description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--frames", type=int, default=81)
    options.add_argument("--only", choices=["time", "memory", "colour"])
    options.add_argument("--memory-of", nargs=4, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.memory_of:
        way, *numbers = chosen.memory_of
        measure_memory(way, *map(int, numbers))
        return
    with tempfile.TemporaryDirectory() as name:
        if chosen.only in (None, "colour"):
            compare_colours(Path(name))
            print()
        if chosen.only in (None, "time"):
            pipe = f"pipe is {_ffmpeg_version()}" if FFMPEG else "no ffmpeg here, so no pipe"
            print(f"{chosen.frames} frames of 720x1280, h264 crf {CRF}, {chosen.rounds} rounds, {os.cpu_count()} CPUs")
            print(pipe)
            compare_times(moving_scene(chosen.frames, 720, 1280), chosen.rounds, Path(name))
            print()
    if chosen.only in (None, "memory"):
        ways = ["ours", "core", "floor"] + (["pipe"] if FFMPEG else [])
        compare_memory([(way, chosen.frames, 720, 1280) for way in ways])
        compare_memory([("ours", 81, 480, 832), ("ours", 1000, 480, 832)])


if __name__ == "__main__":
    main()
