"""Any picture as an upright 8-bit RGB PNG, or one sentence that says why not; child.py runs it."""

import contextlib
import io
from dataclasses import dataclass

# The plugins by name: Pillow would otherwise import all that it has.
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from ...contract.errors import JobError
from .colours import to_rgb
from .file_kind import describe
from .parts import ANIMATED, take_apart

_PLUGINS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
)
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS)
MIN_SIDE = 16
MAX_ASPECT = 8

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A PNG that holds nothing but pixels, the same bytes for the same picture; and what was decided on the way."""

    png: bytes
    warnings: tuple[str, ...] = ()


def decode(content: bytes, max_pixels: int, field: str) -> Decoded:
    """Raises JobError for what is no picture, damaged, too large or too small; MemoryError where memory is limited."""
    try:
        return _decode(content, max_pixels, field)
    except (JobError, MemoryError):
        raise
    except Image.DecompressionBombError:
        sentence = f"{field} has too many pixels, at most {max_pixels / 1e6:g} million are taken"
        raise JobError("IMAGE_TOO_LARGE", sentence, field) from None
    except Image.UnidentifiedImageError:
        sentence = f"{field} is not an image that can be read: {describe(content)}"
        raise JobError("INVALID_IMAGE", sentence, field) from None
    except Exception:  # Pillow's decoders raise nearly anything
        raise JobError("INVALID_IMAGE", f"{field} is truncated or damaged", field) from None


def _decode(content: bytes, max_pixels: int, field: str) -> Decoded:
    parts = take_apart(content)
    with Image.open(io.BytesIO(parts.pixels), formats=FORMATS) as image:
        _check_size(image.size, max_pixels, field)
        image.load()
        picture, warnings = to_rgb(image, parts.profile, field)
        if parts.orientation in _UPRIGHT:
            picture = picture.transpose(_UPRIGHT[parts.orientation])
        picture.info = {}
        png = io.BytesIO()
        picture.save(png, "PNG", compress_level=1)
    said = [*parts.warnings, *([ANIMATED] if _is_animated_gif(content) else []), *warnings]
    return Decoded(png.getvalue(), tuple(said))


def _check_size(size: tuple[int, int], max_pixels: int, field: str) -> None:
    width, height = size
    if width * height > max_pixels:
        sentence = f"{field} has {width} x {height} pixels, at most {max_pixels / 1e6:g} million are taken"
        raise JobError("IMAGE_TOO_LARGE", sentence, field)
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        sentence = (
            f"{field} is {width} x {height}; each side must be at least {MIN_SIDE} pixels "
            f"and the longer one at most {MAX_ASPECT} times the shorter"
        )
        raise JobError("IMAGE_TOO_SMALL", sentence, field)


def _is_animated_gif(content: bytes) -> bool:
    """Whether a second frame begins; what is wrong after the first does not matter."""
    if content.startswith(b"GIF8"):
        with contextlib.suppress(Exception), Image.open(io.BytesIO(content), formats=("GIF",)) as image:
            return bool(getattr(image, "is_animated", False))
    return False
