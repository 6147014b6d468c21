"""The video formats that can be written: container, encoder, ranges, and how a frame rate becomes a fraction."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import av
import torch

from ...rules.errors import InvalidInput
from ...rules.frames.frame_count import MAX_FPS


@dataclass(frozen=True)
class VideoFormat:
    container: str
    encoder: str
    crf_range: tuple[int, int]
    audio_encoder: str
    presets: dict[str, dict[str, str]]
    alpha: bool = False
    codec_tag: str | None = None
    max_encoder_rate: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    small_options: dict[str, str] = field(default_factory=dict)

    def encoder_options(self, width: int, height: int, preset: str) -> dict[str, str]:
        """The encoder's own options for a picture of this size in pixels."""
        small = self.small_options if min(width, height) < SMALL_SIDE else {}
        return self.options | self.presets[preset] | small

    def encoder_rate(self, rate: Fraction) -> Fraction:
        """Frames a second that the encoder is told: the time stamps hold the real ones."""
        return rate if self.max_encoder_rate is None else min(rate, Fraction(self.max_encoder_rate))


SMALL_SIDE = 64
# libx265 4.2's AVX2 code for cutree writes past its buffer where a picture is at most 48 wide: it may end the process.
X265_SMALL = {"x265-params": "log-level=error:no-cutree=1"}
# libSvtAv1Enc 4.1 with several threads waits for ever where one side is at most 24 and the other more than 64.
SVT_AV1_SMALL = {"svtav1-params": "lp=1"}

# x264's AVX-512 code gives other bits for the same frames from run to run (PyAV 18.1, 1 run in 8); AVX2 does not.
SAME_BITS = {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}

# What each encoder does for a file that is written soon, as usual, or small. Of 832x480 frames, time and bytes against
# `balanced`: x264 0.4 and 1.1, 1.7 and 1.0; x265 0.6 and 0.7 (and worse), 2.4 and 0.95; SVT-AV1 0.8 and 1.1, 2.3 and
# 0.65; libvpx 0.3 and 1.3, 1.6 and 0.9.
ENCODER_PRESETS = ("fast", "balanced", "small")
X264 = {
    # x264's medium looks 40 frames ahead and takes 155 MB for 720x1280; 30 frames take 130 MB and the file is as good.
    "fast": {"preset": "veryfast"},
    "balanced": {"preset": "medium", "rc-lookahead": "30"},
    "small": {"preset": "slow", "rc-lookahead": "30"},
}
X265 = {"fast": {"preset": "superfast"}, "balanced": {"preset": "fast"}, "small": {"preset": "slow"}}
SVT_AV1 = {"fast": {"preset": "9"}, "balanced": {"preset": "8"}, "small": {"preset": "5"}}
VP9 = {
    "fast": {"deadline": "realtime", "cpu-used": "8"},
    "balanced": {"deadline": "good", "cpu-used": "4"},
    "small": {"deadline": "good", "cpu-used": "2"},
}
SVT_AV1_MAX_RATE = 240  # libSvtAv1Enc 4.1 opens for no more

FORMATS = {
    "mp4 h264": VideoFormat("mp4", "libx264", (0, 51), "aac", X264, options=SAME_BITS),
    "mp4 h265": VideoFormat(
        "mp4",
        "libx265",
        (0, 51),
        "aac",
        X265,
        codec_tag="hvc1",
        options={"x265-params": "log-level=error"},
        small_options=X265_SMALL,
    ),
    "mp4 av1": VideoFormat(
        "mp4",
        "libsvtav1",
        (1, 63),
        "aac",
        SVT_AV1,
        max_encoder_rate=SVT_AV1_MAX_RATE,
        small_options=SVT_AV1_SMALL,
    ),
    "webm vp9": VideoFormat("webm", "libvpx-vp9", (0, 63), "libopus", VP9, alpha=True, options={"row-mt": "1"}),
    "webm av1": VideoFormat(
        "webm",
        "libsvtav1",
        (1, 63),
        "libopus",
        SVT_AV1,
        max_encoder_rate=SVT_AV1_MAX_RATE,
        small_options=SVT_AV1_SMALL,
    ),
}

NTSC_RATES = tuple(
    Fraction(nominal * 1000, 1001) for nominal in range(24, MAX_FPS + 1) if nominal % 24 == 0 or nominal % 30 == 0
)


def video_format(name: str) -> VideoFormat:
    """The format of that name; InvalidInput names the known ones."""
    if name not in FORMATS:
        raise InvalidInput(f"format must be one of {', '.join(FORMATS)}; got {name!r}.")
    return FORMATS[name]


def fitted_encoding(name: str, crf: int, bit_depth: str) -> tuple[int, int, list[str]]:
    """crf and bit depth as this format takes them here, and a sentence for each that was changed.

    Neither is worth the finished frames, so the nearest value that works is used. Raises InvalidInput for an unknown
    format, one whose encoder is missing, and a bit depth other than 8 and 10.
    """
    chosen = video_format(name)
    if bit_depth not in ("8", "10"):
        raise InvalidInput(f"bit_depth must be 8 or 10; got {bit_depth!r}.")
    low, high = chosen.crf_range
    fitted = min(max(crf, low), high)
    changes = [] if fitted == crf else [f"crf for {name} is {low} to {high}, not {crf}: {fitted} is used."]
    depth = int(bit_depth)
    if pixel_format(depth, alpha=False) not in _pixel_formats(name, chosen.encoder):
        depth = 8
        changes.append(f"bit_depth 10 is not possible with {name} here ({chosen.encoder} takes 8 bit only): 8 is used.")
    return fitted, depth, changes


def _pixel_formats(name: str, encoder: str) -> set[str]:
    try:
        return {known.name for known in av.codec.Codec(encoder, "w").video_formats or ()}
    except av.codec.codec.UnknownCodecError:
        raise InvalidInput(
            f"format {name} needs the encoder {encoder}, which the installed PyAV {av.__version__} lacks; "
            "mp4 h264 works."
        ) from None


def check_preset(encoder_preset: str) -> None:
    """Raise InvalidInput for an encoder preset that is not known."""
    if encoder_preset not in ENCODER_PRESETS:
        raise InvalidInput(f"encoder_preset must be one of {', '.join(ENCODER_PRESETS)}; got {encoder_preset!r}.")


def pixel_format(bit_depth: int, alpha: bool) -> str:
    return ("yuva420p" if alpha else "yuv420p") + ("10le" if bit_depth == 10 else "")


def frame_rate(fps: float) -> Fraction:
    """Frames per second as an exact fraction: 16 -> 16, 12.5 -> 25/2, 23.976 and 23.98 -> 24000/1001.

    Raises InvalidInput outside 1 to MAX_FPS.
    """
    if not (math.isfinite(fps) and 1 <= fps <= MAX_FPS):
        raise InvalidInput(f"fps must be 1 to {MAX_FPS}; got {fps}.")
    for rate in NTSC_RATES:
        if abs(fps - rate) < 0.005:
            return rate
    return Fraction(round(fps * 1000), 1000)
