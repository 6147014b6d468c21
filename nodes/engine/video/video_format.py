"""The video formats that can be written: container, encoder, ranges, and how a frame rate becomes a fraction."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import av
import torch

from ...rules.errors import InvalidInput


@dataclass(frozen=True)
class VideoFormat:
    container: str
    encoder: str
    crf_range: tuple[int, int]
    audio_encoder: str
    alpha: bool = False
    codec_tag: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    small_options: dict[str, str] = field(default_factory=dict)

    def encoder_options(self, width: int, height: int) -> dict[str, str]:
        """The encoder's own options for a picture of this size in pixels."""
        return self.options | (self.small_options if min(width, height) < SMALL_SIDE else {})


SMALL_SIDE = 64
# libx265 4.2's AVX2 code for cutree writes past its buffer where a picture is at most 48 wide: it may end the process.
X265_SMALL = {"x265-params": "log-level=error:no-cutree=1"}
# libSvtAv1Enc 4.1 with several threads waits for ever where one side is at most 24 and the other more than 64.
SVT_AV1_SMALL = {"svtav1-params": "lp=1"}

# x264's AVX-512 code gives other bits for the same frames from run to run (PyAV 18.1, 1 run in 8); AVX2 does not.
SAME_BITS = {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}

FORMATS = {
    # x264's medium looks 40 frames ahead and takes 155 MB for 720x1280; 30 frames take 130 MB and the file is as good.
    "mp4 h264": VideoFormat("mp4", "libx264", (0, 51), "aac", options={"rc-lookahead": "30", **SAME_BITS}),
    "mp4 h265": VideoFormat(
        "mp4",
        "libx265",
        (0, 51),
        "aac",
        codec_tag="hvc1",
        options={"preset": "fast", "x265-params": "log-level=error"},
        small_options=X265_SMALL,
    ),
    "mp4 av1": VideoFormat("mp4", "libsvtav1", (1, 63), "aac", options={"preset": "8"}, small_options=SVT_AV1_SMALL),
    "webm vp9": VideoFormat(
        "webm",
        "libvpx-vp9",
        (0, 63),
        "libopus",
        alpha=True,
        options={"deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    "webm av1": VideoFormat(
        "webm", "libsvtav1", (1, 63), "libopus", options={"preset": "8"}, small_options=SVT_AV1_SMALL
    ),
}

NTSC_RATES = tuple(Fraction(nominal * 1000, 1001) for nominal in (24, 30, 48, 60, 120))


def video_format(name: str) -> VideoFormat:
    """The format of that name; InvalidInput names the known ones."""
    if name not in FORMATS:
        raise InvalidInput(f"format must be one of {', '.join(FORMATS)}; got {name!r}.")
    return FORMATS[name]


def check_encoding(name: str, crf: int, bit_depth: str) -> None:
    """Raise InvalidInput when the format cannot take this crf or bit depth on this machine."""
    chosen = video_format(name)
    low, high = chosen.crf_range
    if not low <= crf <= high:
        raise InvalidInput(f"crf for {name} must be {low} to {high} (lower is better); got {crf}.")
    if bit_depth not in ("8", "10"):
        raise InvalidInput(f"bit_depth must be 8 or 10; got {bit_depth!r}.")
    try:
        pixel_formats = {known.name for known in av.codec.Codec(chosen.encoder, "w").video_formats or ()}
    except av.codec.codec.UnknownCodecError:
        raise InvalidInput(
            f"format {name} needs the encoder {chosen.encoder}, which the installed PyAV {av.__version__} lacks; "
            "mp4 h264 works."
        ) from None
    if pixel_format(int(bit_depth), alpha=False) not in pixel_formats:
        raise InvalidInput(f"bit_depth 10 is not possible with {name} here ({chosen.encoder} takes 8 bit only); use 8.")


def pixel_format(bit_depth: int, alpha: bool) -> str:
    return ("yuva420p" if alpha else "yuv420p") + ("10le" if bit_depth == 10 else "")


def frame_rate(fps: float) -> Fraction:
    """Frames per second as an exact fraction: 16 -> 16, 12.5 -> 25/2, 23.976 and 23.98 -> 24000/1001.

    Raises InvalidInput outside 1 to 120.
    """
    if not (math.isfinite(fps) and 1 <= fps <= 120):
        raise InvalidInput(f"fps must be 1 to 120; got {fps}.")
    for rate in NTSC_RATES:
        if abs(fps - rate) < 0.005:
            return rate
    return Fraction(round(fps * 1000), 1000)
