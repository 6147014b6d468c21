"""service/media/shrink.py: real files of every codec that the workflows write, made small and read back."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from wan_relay.service.media.shrink import shrink_video
from wan_relay.service.media.usual_scheduling import usual_scheduling

ROOT = Path(__file__).resolve().parents[3]
WRITERS = {
    ("libx264", ".mp4"): {"crf": "12"},
    ("libx265", ".mp4"): {"crf": "12", "preset": "fast", "x265-params": "log-level=error:no-cutree=1"},
    ("libsvtav1", ".mp4"): {"crf": "12", "preset": "10", "svtav1-params": "lp=1"},
    ("libsvtav1", ".webm"): {"crf": "12", "preset": "10", "svtav1-params": "lp=1"},
    ("libvpx-vp9", ".webm"): {"crf": "12", "deadline": "realtime", "cpu-used": "8"},
}


def grainy_pan(width: int, height: int, num_frames: int) -> Iterator[np.ndarray]:
    """[height, width, 3] uint8 frames: a soft picture that moves, under grain."""
    random = np.random.default_rng(0)
    soft = np.kron(random.integers(30, 220, (height // 8 + 2, width // 8 + 9, 3)), np.ones((8, 8, 1)))
    for index in range(num_frames):
        left = index % 64
        picture = soft[:height, left : left + width]
        yield np.clip(picture + random.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


def still(width: int, height: int, num_frames: int) -> Iterator[np.ndarray]:
    for _ in range(num_frames):
        yield np.full((height, width, 3), 90, np.uint8)


def make(codec: str, suffix: str, frames: Iterator[np.ndarray], width: int, height: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=suffix[1:]) as sink:
        stream = sink.add_stream(codec, rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = WRITERS[codec, suffix]
        if codec == "libx265":
            stream.codec_context.codec_tag = "hvc1"
        with usual_scheduling():
            stream.codec_context.open(strict=False)
        for frame in frames:
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        sink.mux(stream.encode(None))
    return out.getvalue()


def facts(content: bytes) -> tuple[str, str, int, int, int]:
    """Codec, its tag in the container, width, height and the frames that can be decoded."""
    with av.open(io.BytesIO(content)) as video:
        stream = video.streams.video[0]
        tag = stream.codec_context.codec_tag.strip("\0")
        num_frames = len(list(video.decode(stream)))
        return stream.codec.canonical_name, tag, stream.width, stream.height, num_frames


@pytest.mark.parametrize("share", [0.7, 0.25])
@pytest.mark.parametrize("num_frames", [7, 33])
@pytest.mark.parametrize(("codec", "suffix"), WRITERS)
def test_a_shrunk_file_keeps_its_frames_and_uses_half_of_the_room(codec, suffix, num_frames, share):
    large = make(codec, suffix, grainy_pan(224, 128, num_frames), 224, 128)
    room = int(len(large) * share)
    small = shrink_video(large, suffix, room)
    assert small is not None
    assert facts(small) == facts(large)
    assert room / 2 <= len(small) <= room


@pytest.mark.skipif(sys.platform != "linux", reason="threads and their scheduling are listed by Linux alone")
def test_no_encoder_makes_the_worker_a_real_time_process() -> None:
    large = make("libsvtav1", ".mp4", grainy_pan(320, 192, 9), 320, 192)
    assert shrink_video(large, ".mp4", len(large) // 2)
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")} == {os.SCHED_OTHER}


def test_av1_of_more_frames_a_second_than_its_encoder_opens_for_keeps_their_times():
    def times(content: bytes) -> list[float]:
        with av.open(io.BytesIO(content)) as video:
            return [float(frame.time) for frame in video.decode(video=0)]

    def one_frame_long(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.duration = 1
        return packets

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as sink:
        stream = sink.add_stream("libsvtav1", rate=240)
        stream.width, stream.height, stream.pix_fmt = 224, 128, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 300)
        stream.options = WRITERS["libsvtav1", ".mp4"]
        with usual_scheduling():
            stream.codec_context.open(strict=False)
        for index, picture in enumerate(grainy_pan(224, 128, 9)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 300)
            sink.mux(one_frame_long(stream.encode(frame)))
        sink.mux(one_frame_long(stream.encode(None)))
    small = shrink_video(out.getvalue(), ".mp4", len(out.getvalue()) * 7 // 10)
    assert small is not None
    assert times(small) == times(out.getvalue()) == pytest.approx([index / 300 for index in range(9)])


@pytest.mark.parametrize(("codec", "suffix"), WRITERS)
def test_content_that_needs_little_takes_little(codec, suffix):
    large = make(codec, suffix, still(320, 192, 17), 320, 192)
    small = shrink_video(large, suffix, 1_000_000)
    assert small is not None
    assert facts(small) == facts(large)
    assert len(small) < 20_000


def test_what_cannot_fit_or_is_no_video_gives_nothing():
    large = make("libsvtav1", ".webm", grainy_pan(320, 192, 81), 320, 192)
    assert shrink_video(large, ".webm", 9_999) is None
    assert shrink_video(b"\x00\x00\x00\x20ftyp" + bytes(30_000), ".mp4", 20_000) is None
    assert shrink_video(b"", ".mp4", 20_000) is None


SHRINK_SMALL = """
import sys, types
package = types.ModuleType("wan_relay")
package.__path__ = [sys.argv[1]]
sys.modules["wan_relay"] = package
from wan_relay.tests.service.media.test_shrink import shrink_small_sizes
shrink_small_sizes(*sys.argv[2:])
"""
SIDES = (16, 32, 48, 80)


def shrink_small_sizes(codec: str, suffix: str) -> None:
    for width, height in ((width, height) for width in SIDES for height in SIDES):
        print(f"{width}x{height}", end=" ", flush=True)
        frames = (np.roll(frame, index // 3, 1) for index, frame in enumerate(grainy_pan(width, height, 200)))
        large = make(codec, suffix, frames, width, height)
        small = shrink_video(large, suffix, len(large) * 2 // 3)
        print("gave", *(facts(small or large) if small != large else ()), flush=True)


@pytest.mark.parametrize(("codec", "suffix"), [("libx265", ".mp4"), ("libsvtav1", ".webm")])
def test_small_pictures_are_shrunk_by_encoders_that_crash_or_hang_on_them(codec, suffix):
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHRINK_SMALL, str(ROOT), codec, suffix],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        start_new_session=True,
        check=False,
    )
    name = {"libx265": "hevc hvc1", "libsvtav1": "av1 "}[codec]
    expected = [f"{width}x{height} gave {name} {width} {height} 200" for width in SIDES for height in SIDES]
    assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr[-2000:]
