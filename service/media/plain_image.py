"""Any picture as an upright 8-bit RGB one, or one sentence that says why not."""

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image, ImageCms, ImageOps

from ..contract.errors import JobError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
PLAIN_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
MIN_SIDE = 16
MAX_ASPECT = 8
# What Pillow's decoders raise on damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    zlib.error,
    struct.error,
)


@dataclass(frozen=True)
class PlainImage:
    """An upright 8-bit RGB picture in a file format that every ComfyUI reads."""

    content: bytes
    extension: str
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Named by its content, so that the same picture in the next job meets a warm node cache."""
        return f"wan_relay_{hashlib.sha256(self.content).hexdigest()[:24]}.{self.extension}"


def make_plain(content: bytes, max_pixels: int, field: str) -> PlainImage:
    """Decodes the whole file once; a file that is plain already goes on byte for byte."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, max_pixels, field)
            return _plain(image, content)
    except Image.DecompressionBombError:
        raise JobError("IMAGE_TOO_LARGE", f"{field} has too many pixels", field) from None
    except Image.UnidentifiedImageError:
        raise JobError(
            "INVALID_IMAGE", f"{field} is not an image that can be read: {_what_is(content)}", field
        ) from None
    except _DAMAGE:
        raise JobError("INVALID_IMAGE", f"{field} is truncated or damaged", field) from None


def _check_size(image: Image.Image, max_pixels: int, field: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        sentence = f"{field} has {width} x {height} pixels, at most {max_pixels / 1e6:g} million are taken"
        raise JobError("IMAGE_TOO_LARGE", sentence, field)
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        sentence = (
            f"{field} is {width} x {height}; each side must be at least {MIN_SIDE} pixels "
            f"and the longer one at most {MAX_ASPECT} times the shorter"
        )
        raise JobError("IMAGE_TOO_SMALL", sentence, field)


def _plain(image: Image.Image, content: bytes) -> PlainImage:
    warnings = []
    if getattr(image, "n_frames", 1) > 1:
        if image.format != "MPO":
            warnings.append("the image is animated; its first frame is used")
        image.seek(0)
    image.load()
    upright = image.getexif().get(0x0112, 1) in (0, 1)
    profile = image.info.get("icc_profile")
    if (
        image.format in PLAIN_FORMATS
        and image.mode == "RGB"
        and upright
        and not profile
        and not warnings
        and "transparency" not in image.info
    ):
        return PlainImage(content, PLAIN_FORMATS[image.format])
    picture = ImageOps.exif_transpose(image)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").histogram()[255] < picture.width * picture.height:
            warnings.append("the image has transparency; it was laid over white")
        background = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(background, picture).convert("RGB")
    elif picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value / 257).convert("L")
    picture = _to_srgb(picture, profile)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return PlainImage(out.getvalue(), "png", tuple(warnings))


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            converted.info.clear()
            return converted
    return picture.convert("RGB")


def _what_is(content: bytes) -> str:
    head = content[:400].lstrip().lower()
    if not content:
        return "it is empty"
    if b"<svg" in head:
        return "SVG is not supported"
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is text/html"
    for magic, kind in ((b"%pdf", "application/pdf"), (b"pk\x03\x04", "a zip archive")):
        if head.startswith(magic):
            return f"it is {kind}"
    if content[4:8] == b"ftyp":
        return "it is AVIF or HEIC" if content[8:12] in (b"avif", b"heic", b"heix", b"mif1") else "it is a video"
    return "its content is not a known format"
