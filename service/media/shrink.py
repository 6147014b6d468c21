"""A video re-encoded once to a number of bytes, without ComfyUI and without torch."""

import io
from fractions import Fraction

import av

ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
HEADROOM = 0.9
MIN_BIT_RATE = 20_000


def shrink_video(content: bytes, suffix: str, room: int) -> bytes | None:
    """The same frames in the same codec and container, in at most `room` bytes; None if that cannot be.

    The bit rate follows from the room, with a rate cap, so that one pass is enough.
    """
    if room < 10_000:
        return None
    try:
        smaller = _encode(content, suffix, int(room * HEADROOM))
    except (av.FFmpegError, ValueError, IndexError, KeyError):
        return None
    return smaller if len(smaller) <= room else None


def _encode(content: bytes, suffix: str, target: int) -> bytes:
    out = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(out, "w", format=suffix.lstrip(".")) as sink:
        video = source.streams.video[0]
        rate = video.average_rate or Fraction(16)
        duration = float(source.duration or av.time_base) / av.time_base
        # A rate-capped file has at most rate x duration plus one full buffer.
        buffer_s = min(1.0, duration / 4)
        bit_rate = max(MIN_BIT_RATE, int(target * 8 / (duration + buffer_s)))
        codec = video.codec_context
        encoder = ENCODERS[codec.codec.canonical_name]
        stream = sink.add_stream(encoder, rate=rate)
        stream.width, stream.height, stream.pix_fmt = codec.width, codec.height, codec.pix_fmt
        stream.time_base = video.time_base
        cap = {"maxrate": str(bit_rate), "bufsize": str(int(bit_rate * buffer_s))}
        if encoder == "libsvtav1":  # takes a rate cap in its constant-quality mode only
            stream.options = {"crf": "40"} | cap
        else:
            stream.bit_rate, stream.options = bit_rate, cap
        context = stream.codec_context
        context.color_range, context.colorspace = codec.color_range, codec.colorspace
        context.color_primaries, context.color_trc = codec.color_primaries, codec.color_trc
        for frame in source.decode(video):
            frame.pict_type = av.video.frame.PictureType.NONE
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return out.getvalue()
