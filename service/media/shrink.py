"""A video re-encoded to a number of bytes, without ComfyUI and without torch."""

import io
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import av

from .usual_scheduling import usual_scheduling

MIN_ROOM = 10_000
TRIES = 5
HALF_FULL, AIM = -1.0, -0.5  # doublings of bytes from a full room: what is enough, and what a new try aims at
HEADROOM = 0.9
MIN_BIT_RATE = 20_000
USUAL_CRF, MAX_CRF, CRF_PER_DOUBLING = 19, 63, 8  # of AV1 and VP9
SMALL_SIDE = 64


@dataclass(frozen=True)
class Encoder:
    """How one codec is written. `small_options` are for a side shorter than 64 pixels, where libx265 may crash and
    libsvtav1 wait for ever without them; `max_rate` are the frames a second that it opens for, whatever comes."""

    name: str
    keeps_bit_rate: bool
    options: dict[str, str] = field(default_factory=dict)
    small_options: dict[str, str] = field(default_factory=dict)
    max_rate: int = 1000


ENCODERS = {
    "h264": Encoder("libx264", keeps_bit_rate=True),
    "hevc": Encoder(
        "libx265",
        keeps_bit_rate=True,
        options={"preset": "fast", "x265-params": "log-level=error"},
        small_options={"x265-params": "log-level=error:no-cutree=1"},
    ),
    "av1": Encoder(
        "libsvtav1",
        keeps_bit_rate=False,
        options={"preset": "8"},
        small_options={"svtav1-params": "lp=1"},
        max_rate=240,
    ),
    "vp9": Encoder("libvpx-vp9", keeps_bit_rate=False, options={"deadline": "good", "cpu-used": "4", "row-mt": "1"}),
}


class Try(NamedTuple):
    """One encoding: how much larger than the original it was asked to be, and how full the room is of it (0 is to the
    brim, -1 half, 1 twice too much), both in doublings."""

    asked: float
    fullness: float
    content: bytes

    @property
    def fits(self) -> bool:
        return self.fullness <= 0


def shrink_video(content: bytes, suffix: str, room: int) -> bytes | None:
    """The same frames in the same codec and container, in at most `room` bytes; None if that cannot be.

    Encoded until half of the room is used, five times at most. libx264 and libx265 keep to a bit rate and mostly need
    one try; libsvtav1 and libvpx do not, so that their quality is moved by what the tries before weighed.
    """
    if room < MIN_ROOM:
        return None
    tries: list[Try] = []
    asked = math.log2(room / max(1, len(content)))
    try:
        while len(tries) < TRIES and not _settled(tries):
            smaller = _encode(content, suffix, len(content) * 2**asked, USUAL_CRF - asked * CRF_PER_DOUBLING)
            tries.append(Try(asked, math.log2(len(smaller) / room), smaller))
            asked = _next_ask(tries)
    except (av.FFmpegError, ValueError, IndexError, KeyError):
        pass
    return max((each.content for each in tries if each.fits), key=len, default=None)


def _settled(tries: list[Try]) -> bool:
    """Half of the room is used, or asking for more or less no longer changes anything."""
    if not tries:
        return False
    fullness = tries[-1].fullness
    return HALF_FULL <= fullness <= 0 or (len(tries) > 1 and abs(fullness - tries[-2].fullness) < 0.01)


def _next_ask(tries: list[Try]) -> float:
    """Where the line through the last try that fitted and the last that did not crosses AIM; with one kind alone, as
    far from the last as that was from AIM."""
    fitted, exceeded = ([each for each in tries if each.fits is fits] for fits in (True, False))
    if fitted and exceeded:
        (low, below, _), (high, above, _) = fitted[-1], exceeded[-1]
        return low + (high - low) * (AIM - below) / (above - below)
    return tries[-1].asked + AIM - tries[-1].fullness


def _encode(content: bytes, suffix: str, size: float, crf: float) -> bytes:
    """The whole video, for about `size` bytes where the encoder keeps a bit rate, else at quality `crf`."""
    out = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(out, "w", format=suffix.lstrip(".")) as sink:
        video = source.streams.video[0]
        codec = video.codec_context
        encoder = ENCODERS[codec.codec.canonical_name]
        rate = video.average_rate or Fraction(16)
        stream = sink.add_stream(encoder.name, rate=min(rate, Fraction(encoder.max_rate)))
        stream.width, stream.height, stream.pix_fmt = codec.width, codec.height, codec.pix_fmt
        stream.time_base = video.time_base
        small = encoder.small_options if min(codec.width, codec.height) < SMALL_SIDE else {}
        if encoder.keeps_bit_rate:
            duration_s = float(source.duration or av.time_base) / av.time_base
            stream.bit_rate, quality = _capped_rate(size, duration_s)
        else:
            quality = {"crf": str(min(MAX_CRF, max(1, round(crf))))}
        stream.options = encoder.options | small | quality
        context = stream.codec_context
        context.time_base = 1 / rate
        context.codec_tag = codec.codec_tag  # Apple's players want the hvc1 that was there
        context.color_range, context.colorspace = codec.color_range, codec.colorspace
        context.color_primaries, context.color_trc = codec.color_primaries, codec.color_trc
        with usual_scheduling():
            context.open(strict=False)
        for frame in source.decode(video):
            frame.pict_type = av.video.frame.PictureType.NONE
            sink.mux(_lasting(stream.encode(frame), rate))
        sink.mux(_lasting(stream.encode(None), rate))
    return out.getvalue()


def _lasting(packets: list[av.Packet], rate: Fraction) -> list[av.Packet]:
    """The packets, each one frame long: an encoder that was told another rate writes that one's length."""
    for packet in packets:
        packet.duration = round(1 / rate / packet.time_base)
    return packets


def _capped_rate(size: float, duration_s: float) -> tuple[int, dict[str, str]]:
    """Bits a second, and the cap that holds them: such a file has at most rate x duration plus one full buffer."""
    buffer_s = min(1.0, duration_s / 4)
    bit_rate = max(MIN_BIT_RATE, int(size * HEADROOM * 8 / (duration_s + buffer_s)))
    return bit_rate, {"maxrate": str(bit_rate), "bufsize": str(int(bit_rate * buffer_s))}
