import ctypes
import math
import os
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from wan_relay.bench.save_video import colour_chart
from wan_relay.nodes.engine.files.whole_file import save_whole
from wan_relay.nodes.engine.video.sound import SoundTrack
from wan_relay.nodes.engine.video.video_file import VideoSpec, check_images, encode_video
from wan_relay.nodes.engine.video.video_format import FORMATS, check_preset, fitted_encoding, frame_rate, video_format
from wan_relay.nodes.rules.errors import InvalidInput, VideoNotSaved

from .read_video import read_alpha, read_images, read_sound

WIDTH, HEIGHT = 96, 64


def drifting_ramps(num_frames: int = 9, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    """[frames, height, width, 3]: soft colours, different in every frame."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frames = [
        torch.stack([x * (1 - t), 0.3 + 0.4 * y, torch.full_like(x, t)], -1) for t in torch.linspace(0, 1, num_frames)
    ]
    return torch.stack(frames)


def encode(path: Path, images: torch.Tensor, name: str = "mp4 h264", crf: int = 8, bit_depth: int = 8, fps=16, **more):
    encode_video(path, images, VideoSpec(video_format(name), frame_rate(fps), crf, bit_depth), **more)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="threads and their scheduling are listed by Linux alone")
@pytest.mark.parametrize("name", FORMATS)
def test_no_encoder_makes_this_process_a_real_time_one(tmp_path: Path, name: str) -> None:
    """SVT-AV1 does where root runs it; what is started later inherits that, and starves the machine."""
    seen: set[int] = set()

    def look(_: int) -> None:
        seen.update(os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task"))

    encode(tmp_path / "clip", drifting_ramps(), name, on_frame=look)
    assert seen == {os.SCHED_OTHER}


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_all_frames_with_their_size_rate_tags_and_colours(tmp_path, name, bit_depth):
    if (name, bit_depth) == ("webm vp9", 10):
        pytest.skip("this libvpx takes 8 bit only")
    images = drifting_ramps()
    path = encode(tmp_path / "clip", images, name, bit_depth=bit_depth, fps=12.5)
    codec = {"h264": "h264", "h265": "hevc", "av1": "av1", "vp9": "vp9"}[name.split()[1]]
    with av.open(str(path)) as container:
        assert ("webm" in container.format.name) == name.startswith("webm")
        video = container.streams.video[0]
        context = video.codec_context
        assert video.codec.canonical_name == codec
        assert (video.width, video.height, video.average_rate) == (WIDTH, HEIGHT, Fraction(25, 2))
        assert context.pix_fmt == ("yuv420p" if bit_depth == 8 else "yuv420p10le")
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tags == (1, 1, 1, 1), "BT.709 three times, limited range"
        assert context.codec_tag == {"mp4 h265": "hvc1", "mp4 h264": "avc1"}.get(name, context.codec_tag)
        frames = list(container.decode(video))
        assert [(frame.colorspace, frame.color_range) for frame in frames] == [(1, 1)] * len(images)
        assert [round(frame.time * 12.5) for frame in frames] == list(range(len(images)))
    difference = (read_images(path) - images).abs() * 255
    assert difference.mean() < 1
    assert difference.max() < 8


def test_torch_keeps_its_number_of_threads(tmp_path):
    def in_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        encode(tmp_path / "clip", drifting_ramps())
        assert (torch.get_num_threads(), in_a_new_thread()) == (3, 3)
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("name", ["mp4 h264", "mp4 h265", "webm vp9"])
def test_colours_come_back_and_do_not_drift(tmp_path, name):
    chart, inside = colour_chart()
    images, means = chart, []
    for turn in range(3):
        images = read_images(encode(tmp_path / f"{turn}", images, name))
        error = ((images[1] - chart[1]) * 255)[inside]
        means.append(error.abs().mean())
        assert error.abs().mean() <= 2
        assert error.abs().max() <= (4 if turn == 0 else 6)
        assert error.mean(0).abs().max() < 0.2, "no channel gets darker or lighter"
    assert means[2] < means[0] + 0.2


def test_alpha_survives_vp9(tmp_path):
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    alpha = ((x - 48) ** 2 + (y - 32) ** 2 < 600).float() * 0.75
    images = torch.cat([drifting_ramps(3), alpha.expand(3, -1, -1)[..., None]], -1)
    found = read_alpha(encode(tmp_path / "clip.webm", images, "webm vp9"))
    assert np.abs(found[1] - alpha.numpy() * 255).mean() < 2
    assert abs(int(found[1, 32, 48]) - 191) <= 2
    assert found[1, 0, 0] <= 1


@pytest.mark.parametrize("name", ["mp4 h264", "webm vp9"])
def test_odd_sides_grow_by_one_and_nothing_is_stretched(tmp_path, name):
    images = drifting_ramps(3, width=95, height=63)
    back = read_images(encode(tmp_path / "clip", images, name))
    assert back.shape == (3, 64, 96, 3)
    assert ((back[:, :63, :95] - images).abs() * 255).max() < 8


def test_the_index_of_an_mp4_comes_before_the_pictures(tmp_path):
    content = encode(tmp_path / "clip.mp4", drifting_ramps(3)).read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("name", ["mp4 h264", "webm vp9"])
def test_several_megabytes_of_metadata_fit(tmp_path, name):
    long = '{"nodes": "' + "grün " * 800_000 + '"}'
    metadata = {"prompt": '{"1": {}}', "workflow": long}
    path = encode(tmp_path / "clip", drifting_ramps(3), name, metadata=metadata)
    with av.open(str(path)) as container:
        found = {key.lower(): text for key, text in container.metadata.items()}
        assert len(list(container.decode(video=0))) == 3
    assert {key: found[key] for key in metadata} == metadata


def tone(seconds: float, sample_rate: int, channels: int) -> dict:
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    levels = torch.linspace(0.5, 0.3, channels)[:, None]
    return {"waveform": (levels * torch.sin(2 * math.pi * 440 * time))[None], "sample_rate": sample_rate}


@pytest.mark.parametrize(
    ("name", "seconds", "sample_rate", "channels"),
    [
        ("mp4 h264", 9.0, 44100, 2),
        ("mp4 h264", 9.0, 22050, 1),
        ("mp4 h264", 0.7, 192000, 6),
        ("webm vp9", 9.0, 44100, 2),
        ("webm vp9", 0.7, 48000, 1),
    ],
)
def test_sound_is_encoded_beside_the_frames_and_ends_with_them(tmp_path, name, seconds, sample_rate, channels):
    images = drifting_ramps(24)  # 1.5 s at 16 fps
    sound = SoundTrack(tone(seconds, sample_rate, channels), Fraction(24, 16))
    path = encode(tmp_path / "clip", images, name, sound=sound)
    samples, found_rate = read_sound(path)
    assert samples.shape[0] == channels
    wanted_s = min(seconds, 1.5)
    assert samples.shape[1] / found_rate == pytest.approx(wanted_s, abs=0.05)
    middle = samples[0, found_rate // 5 : found_rate // 2]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * found_rate / len(middle) == pytest.approx(440, abs=5)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / math.sqrt(2), rel=0.1)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec.name == ("aac" if name.startswith("mp4") else "opus")
        kinds = [packet.stream.type for packet in container.demux() if packet.size]
        assert len(read_images(path)) == 24
    assert "audio" in kinds[: len(kinds) // 2], "sound and pictures are interleaved"


def test_sound_keeps_pace_with_the_frames_of_a_slow_video(tmp_path):
    """The container waits ten seconds at most for a stream that lags; the sound must not come after all frames."""
    sound = SoundTrack(tone(40, 8000, 1), Fraction(40))
    path = encode(tmp_path / "clip.mp4", drifting_ramps(40), crf=40, fps=1, sound=sound)
    with av.open(str(path)) as container:
        offsets = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                offsets[packet.stream.type].append(packet.pos)
    assert sum(position < offsets["video"][20] for position in offsets["audio"]) > len(offsets["audio"]) // 4


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        ({"waveform": torch.zeros(1, 3, 100), "sample_rate": 44100}, "1, 2 or 6 channels"),
        ({"waveform": torch.zeros(1, 8, 100), "sample_rate": 44100}, "1, 2 or 6 channels"),
        ({"waveform": torch.zeros(1, 2, 0), "sample_rate": 44100}, "got \\[1, 2, 0\\]"),
        ({"waveform": torch.full((1, 1, 10), math.nan), "sample_rate": 44100}, "NaN"),
        ({"waveform": torch.zeros(1, 1, 10), "sample_rate": 0}, "sample rate"),
    ],
)
def test_sound_that_cannot_be_encoded_is_refused(audio, words):
    with pytest.raises(InvalidInput, match=words):
        SoundTrack(audio, Fraction(1))


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (16, Fraction(16)),
        (12.5, Fraction(25, 2)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (24, Fraction(24)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (15.999, Fraction(15999, 1000)),
        (1, Fraction(1)),
        (120, Fraction(120)),
        (37.5, Fraction(75, 2)),
        (71.928072, Fraction(72000, 1001)),
        (239.76, Fraction(240000, 1001)),
        (300, Fraction(300)),
        (480, Fraction(480)),
    ],
)
def test_frame_rates_are_exact(tmp_path, fps, rate):
    assert frame_rate(fps) == rate
    with av.open(str(encode(tmp_path / "clip.mp4", torch.zeros(5, 16, 16, 3), fps=fps))) as container:
        assert container.streams.video[0].average_rate == rate


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_three_hundred_frames_a_second(tmp_path, name):
    """SVT-AV1 opens for 240 at most; the time stamps are what counts."""
    with av.open(str(encode(tmp_path / "clip", drifting_ramps(7), name, fps=300))) as container:
        rate = container.streams.video[0].average_rate
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert rate == 300 or "webm" in name  # webm counts whole milliseconds
    assert times == pytest.approx([index / 300 for index in range(7)], abs=0.0006)


@pytest.mark.parametrize("fps", [math.nan, math.inf, 0, 0.99, 480.01, -16])
def test_frame_rates_out_of_range_are_refused(fps):
    with pytest.raises(InvalidInput, match="fps must be 1 to 480"):
        frame_rate(fps)


@pytest.mark.parametrize(
    ("name", "crf", "bit_depth", "fitted"),
    [
        ("mp4 h264", 20, "10", (20, 10, [])),
        ("mp4 h264", 52, "8", (51, 8, ["crf for mp4 h264 is 0 to 51, not 52: 51 is used."])),
        ("mp4 av1", 0, "8", (1, 8, ["crf for mp4 av1 is 1 to 63, not 0: 1 is used."])),
        (
            "webm vp9",
            64,
            "10",
            (
                63,
                8,
                [
                    "crf for webm vp9 is 0 to 63, not 64: 63 is used.",
                    "bit_depth 10 is not possible with webm vp9 here (libvpx-vp9 takes 8 bit only): 8 is used.",
                ],
            ),
        ),
    ],
)
def test_crf_and_bit_depth_become_what_the_format_takes(name, crf, bit_depth, fitted):
    assert fitted_encoding(name, crf, bit_depth) == fitted


@pytest.mark.parametrize(
    ("name", "bit_depth", "words"),
    [("mp4 h264", "12", "bit_depth must be 8 or 10"), ("avi", "8", "format must be one of mp4 h264")],
)
def test_encodings_that_cannot_work_are_refused(name, bit_depth, words):
    with pytest.raises(InvalidInput, match=words):
        fitted_encoding(name, 20, bit_depth)


def test_presets_that_are_not_known_are_refused():
    with pytest.raises(InvalidInput, match=r"encoder_preset must be one of fast, balanced, small; got 'slow'\."):
        check_preset("slow")


def preset_file(folder: Path, name: str, preset: str, images: torch.Tensor) -> bytes:
    path = folder / preset
    encode_video(path, images, VideoSpec(video_format(name), Fraction(16), 20, preset=preset))
    return path.read_bytes()


def test_x264_writes_with_the_settings_of_the_preset(tmp_path):
    """x264 writes its settings into the stream: search method, subpixel refinement, reference frames, look-ahead."""
    found = {}
    for preset in ("fast", "balanced", "small"):
        text = preset_file(tmp_path, "mp4 h264", preset, drifting_ramps(3)).decode("latin-1")
        found[preset] = re.search(r"ref=(\d+).* me=(\w+) subme=(\d+).* rc_lookahead=(\d+)", text).groups()
    assert found == {
        "fast": ("1", "hex", "2", "10"),
        "balanced": ("3", "hex", "7", "30"),
        "small": ("5", "hex", "8", "30"),
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_preset_is_another_encoding_of_the_same_frames(tmp_path, name):
    images = torch.rand(9, 64, 96, 3, generator=torch.Generator().manual_seed(2)) * 0.2 + drifting_ramps() * 0.8
    made = {preset: preset_file(tmp_path, name, preset, images) for preset in ("fast", "balanced", "small")}
    assert len(set(made.values())) == 3
    for preset in made:
        read = read_images(tmp_path / preset)
        assert read.shape == images.shape
        assert (read - images).abs().mean() < 0.06
    if "av1" in name or "vp9" in name:
        assert len(made["small"]) < len(made["fast"])


@pytest.mark.parametrize("name", FORMATS)
def test_the_frames_come_in_the_order_that_is_asked_for(tmp_path, name):
    images, order = drifting_ramps(5), [4, 0, 0, 2]
    read = read_images(encode(tmp_path / "clip", images, name, order=order))
    assert read.shape == (4, HEIGHT, WIDTH, 3)
    assert (read - images[order]).abs().mean(dim=(1, 2, 3)).max() < 0.02


@pytest.mark.parametrize("name", FORMATS)
def test_the_ends_of_the_crf_range_encode(tmp_path, name):
    for crf in video_format(name).crf_range:
        assert fitted_encoding(name, crf, "8") == (crf, 8, [])
        assert read_images(encode(tmp_path / f"{crf}", drifting_ramps(3), name, crf=crf)).shape[0] == 3


@pytest.mark.parametrize("name", FORMATS)
def test_clips_of_one_and_two_frames_encode_every_time(tmp_path, name):
    for num_frames in (1, 2) * 5:
        path = encode(tmp_path / "clip", drifting_ramps(num_frames), name)
        with av.open(str(path)) as container:
            assert [round(frame.time * 16) for frame in container.decode(video=0)] == list(range(num_frames))


@pytest.mark.parametrize("shape", [(64, 64, 3), (2, 64, 64, 2), (0, 64, 64, 3), (2, 0, 64, 3), (1, 2, 64, 64, 3)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInput, match="images must"):
        check_images(torch.zeros(shape))


def test_integer_images_are_refused():
    with pytest.raises(InvalidInput, match=r"floats in 0 to 1; got torch\.uint8"):
        check_images(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))


def test_a_broken_frame_is_named(tmp_path):
    images = drifting_ramps(9)
    images[6, 3, 3, 0] = math.nan
    with pytest.raises(InvalidInput, match="images: frame 7 of 9 holds NaN or infinite values; nothing was saved"):
        encode(tmp_path / "clip.mp4", images)


def test_an_encoder_that_refuses_is_said_in_words(tmp_path):
    with pytest.raises(VideoNotSaved, match="The encoder libx264 failed at 32768x2, 8 bit, crf 8: "):
        save_whole(tmp_path, str, 1, lambda path: encode(path, torch.zeros(1, 2, 32768, 3)))
    assert list(tmp_path.iterdir()) == []


class Cancelled(BaseException):
    """What ComfyUI raises when a prompt is cancelled is no Exception either."""


@pytest.mark.parametrize("after", [1, 30, 60])
def test_cancel_at_any_frame_comes_through_and_leaves_nothing(tmp_path, after):
    seen = []

    def on_frame(done: int) -> None:
        seen.append(done)
        if done == after:
            raise Cancelled

    with pytest.raises(Cancelled):
        save_whole(tmp_path, str, 1, lambda path: encode(path, drifting_ramps(60), on_frame=on_frame))
    assert seen == list(range(1, after + 1))
    assert list(tmp_path.iterdir()) == []


def noise(num_frames: int) -> torch.Tensor:
    return torch.rand(num_frames, 128, 128, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["mp4 h264", "webm vp9"])
def test_a_full_disk_leaves_nothing_and_is_said(tmp_path, name):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(VideoNotSaved, match="the disk is full; no file was left"):
            save_whole(tmp_path, str, 1, lambda path: encode(path, noise(12), name))
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], stdin=subprocess.DEVNULL, check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("name", ["mp4 h264", "webm vp9"])
def test_a_file_size_limit_leaves_nothing_and_is_said(tmp_path, name):
    """Each size cuts the file elsewhere: amid the frames, or near the end, where only closing it fails."""
    whole = encode(tmp_path / "whole", noise(6), name).stat().st_size
    folder = tmp_path / "limited"
    folder.mkdir()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (100, 8192, whole // 2, whole - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
            with pytest.raises(VideoNotSaved, match="the file is larger than this system allows; no file was left"):
                save_whole(folder, str, 1, lambda path: encode(path, noise(6), name))
            assert list(folder.iterdir()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process its peak memory")
def test_a_thousand_frames_need_no_more_memory_than_eighty(tmp_path):
    """A copy of all frames would take 98 MB as yuv420p, 197 MB as 8-bit RGB, 786 MB as floats."""
    images = torch.rand(1, 256, 256, 3).expand(1000, -1, -1, -1)
    encode(tmp_path / "few.mp4", images[:80], crf=40)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mb()
    path = encode(tmp_path / "many.mp4", images, crf=40)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 1000
    assert peak_mb() - before < 60
