"""Every request at the toy family's size, which a CPU makes in a minute: `dev.py gateway` without --full-size."""

from dataclasses import replace

from ..contract.sizes import offered_size
from ..contract.video_request import VideoRequest
from .draft import Draft

MAX_PIXELS = 240 * 160
MAX_FRAMES = 33
SIDE = 16
SIDE_5B = 32


def at_toy_size(draft: Draft, max_frames: int = MAX_FRAMES) -> Draft:
    """The same aspect in at most 240 x 160 pixels and 33 frames, or fewer, with a warning that says so."""
    request = draft.request
    width, height = asked_size(request)
    length = asked_length(request)
    scale = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5)
    side = SIDE_5B if request.workflow == "wan22_ti2v_5b" else SIDE
    size = [max(64, int(pixels * scale) // side * side) for pixels in (width, height)]
    frames = min(length, max_frames)
    if (*size, frames) == (width, height, length):
        return draft
    wire = request.to_wire()
    is_auto = wire.get("aspect_ratio") == "auto"
    for name in ("resolution", "aspect_ratio", "duration"):
        wire.pop(name, None)
    wire |= {"width": size[0], "height": size[1], "length": frames}
    if is_auto:
        wire["sizing"] = "match image"
    sentence = (
        f"this gateway renders at toy size: {size[0]}x{size[1]} and {frames} frames "
        f"in place of {width}x{height} and {length}"
    )
    return replace(draft, request=VideoRequest.model_validate(wire)).warned(sentence)


def asked_size(request: VideoRequest) -> tuple[int, int]:
    """Pixels of width and height, also where a resolution was named."""
    if request.resolution is not None:
        return offered_size(request.workflow, request.resolution, request.aspect_ratio or "auto")
    return request.width, request.height


def asked_length(request: VideoRequest) -> int:
    """Frames, also where a duration was named."""
    return request.length if request.duration is None else round(request.duration * request.fps) // 4 * 4 + 1
