"""Images and sound to a video file, encoded while the next images are converted."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from ...rules.errors import InvalidInput, VideoNotSaved
from .colour import PlaneConverter
from .sound import SoundTrack
from .usual_scheduling import usual_scheduling
from .video_format import VideoFormat, pixel_format

BT709 = 1  # the same number in FFmpeg's lists of primaries, transfers and matrices
LIMITED_RANGE = 1
FRAMES_AHEAD = 2


@dataclass(frozen=True)
class VideoSpec:
    """All that defines the encoding of one video."""

    format: VideoFormat
    rate: Fraction
    crf: int
    bit_depth: int = 8
    preset: str = "balanced"

    def keeps_alpha(self, channels: int) -> bool:
        return self.format.alpha and channels == 4


def check_images(images: torch.Tensor) -> None:
    """Raise InvalidInput unless `images` is [frames, height, width, 1, 3 or 4 channels] of floats, not empty."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        raise InvalidInput(f"images must be [frames, height, width, 1, 3 or 4 channels]; got {list(shape)}.")
    if 0 in shape:
        raise InvalidInput(f"images must hold at least one frame and one pixel; got {list(shape)}.")
    if not images.is_floating_point():
        raise InvalidInput(f"images must be floats in 0 to 1; got {images.dtype}.")


def even_size(images: torch.Tensor) -> tuple[int, int]:
    """Width and height of the video: the images', plus one where odd, since 4:2:0 chroma needs even sides."""
    height, width = images.shape[1:3]
    return width + width % 2, height + height % 2


def encode_video(
    path: Path,
    images: torch.Tensor,
    spec: VideoSpec,
    sound: SoundTrack | None = None,
    metadata: dict[str, str] | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
    order: Sequence[int] | None = None,
) -> None:
    """Write `images` [frames, height, width, channels] in 0..1, with `sound`, to `path`; `order` lists which of them.

    One frame at a time is converted on the images' device by a second thread while this one encodes. `on_frame` is
    called after each encoded frame and may raise to stop. Raises InvalidInput for NaN or infinite pixels, VideoNotSaved
    when the encoder refuses, OSError when the disk does.
    """
    options = {"movflags": "use_metadata_tags+faststart"} if spec.format.container == "mp4" else {}
    try:
        with av.open(str(path), "w", format=spec.format.container, options=options) as container:
            container.metadata.update(metadata or {})
            _encode(container, images, range(len(images)) if order is None else order, spec, sound, on_frame)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        width, height = even_size(images)
        kind = f"{width}x{height}, {spec.bit_depth} bit, crf {spec.crf}"
        raise VideoNotSaved(f"The encoder {spec.format.encoder} failed at {kind}: {error.strerror}.") from error


def _encode(
    container: av.container.OutputContainer,
    images: torch.Tensor,
    order: Sequence[int],
    spec: VideoSpec,
    sound: SoundTrack | None,
    on_frame: Callable[[int], None],
) -> None:
    width, height = even_size(images)
    alpha = spec.keeps_alpha(images.shape[3])
    converter = PlaneConverter(width, height, images.shape[3], spec.bit_depth, alpha)
    video = _add_video_stream(container, spec, width, height, alpha)
    if len(order) < 3:
        # x265 invents the first time stamp when fewer frames come than it reorders.
        video.codec_context.max_b_frames = 0
    with usual_scheduling():
        video.codec_context.open(strict=False)
    feed_sound = sound.add_to(container, spec.format.audio_encoder) if sound else lambda until_s: None
    with closing(frames_of(images, order, converter, video.pix_fmt)) as frames:
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, 1 / spec.rate
            container.mux(_lasting(video.encode(frame), spec.rate))
            feed_sound((index + 1) / spec.rate)
            on_frame(index + 1)
    container.mux(_lasting(video.encode(None), spec.rate))
    feed_sound(None)


def _lasting(packets: list[av.Packet], rate: Fraction) -> list[av.Packet]:
    """The packets, each one frame long: an encoder that was told another rate writes that one's length."""
    for packet in packets:
        packet.duration = round(1 / rate / packet.time_base)
    return packets


def _add_video_stream(
    container: av.container.OutputContainer, spec: VideoSpec, width: int, height: int, alpha: bool
) -> av.VideoStream:
    video = container.add_stream(spec.format.encoder, rate=spec.format.encoder_rate(spec.rate))
    video.width, video.height = width, height
    video.pix_fmt = pixel_format(spec.bit_depth, alpha)
    video.time_base = 1 / spec.rate
    options = spec.format.encoder_options(width, height, spec.preset)
    video.options = {**options, "crf": str(spec.crf), "chroma_sample_location": "left"}
    context = video.codec_context
    context.time_base = 1 / spec.rate  # where the encoder is told of fewer frames a second
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    if spec.format.codec_tag:
        context.codec_tag = spec.format.codec_tag
    return video


def frames_of(
    images: torch.Tensor, order: Sequence[int], converter: PlaneConverter, pix_fmt: str
) -> Generator[av.VideoFrame, None, None]:
    """The images in `order` as encoder frames, converted a few ahead by one thread."""

    def convert(index: int) -> av.VideoFrame:
        frame = av.VideoFrame(converter.width, converter.height, pix_fmt)
        frame.colorspace, frame.color_range = BT709, LIMITED_RANGE
        try:
            converter.convert(images[index], [_plane_view(plane, converter.dtype) for plane in frame.planes])
        except InvalidInput as error:
            raise InvalidInput(f"images: frame {index + 1} of {len(images)} {error}; nothing was saved.") from None
        return frame

    with _conversion_thread() as pool:
        pending: deque[Future[av.VideoFrame]] = deque()
        for index in order:
            pending.append(pool.submit(convert, index))
            if len(pending) > FRAMES_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def _conversion_thread() -> Iterator[ThreadPoolExecutor]:
    """One thread in which torch computes alone: more would save no time here, and take cores from the encoder.

    OpenMP counts threads per thread, but new threads inherit torch's last setting: so the old one is put back.
    """
    usual = torch.get_num_threads()
    with ThreadPoolExecutor(1, "wan_relay_convert", torch.set_num_threads, (1,)) as pool:
        try:
            yield pool
        finally:
            pool.submit(torch.set_num_threads, usual)


def _plane_view(plane: av.video.plane.VideoPlane, dtype: np.dtype) -> np.ndarray:
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: plane.height, : plane.width]
