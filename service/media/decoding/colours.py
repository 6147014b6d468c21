"""From any mode of Pillow's to 8-bit RGB: the colours that were meant, and a sentence where that is a choice."""

import io
import math
from typing import cast

from PIL import Image, ImageCms, ImageOps

from ...contract.errors import JobError

OVER_WHITE = "the image has transparency; it was laid over white"

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2


def to_rgb(image: Image.Image, profile: bytes | None, field: str) -> tuple[Image.Image, list[str]]:
    """A loaded image as 8-bit RGB, and warnings. `profile` is an ICC profile; one that does not fit is left out.

    Raises JobError for floating-point pixels that are not numbers.
    """
    grey, warnings = _grey_to_8_bits(image, field)
    opaque, had_transparency = _over_white(grey)
    return _to_srgb(opaque, profile), warnings + [OVER_WHITE] * had_transparency


# --- more than 8 bits ---


def _grey_to_8_bits(image: Image.Image, field: str) -> tuple[Image.Image, list[str]]:
    """Grey of 12, 16 or 32 bits or floating point as `L`; any other mode as it is.

    Unsigned 12 and 16 bits, and floats from 0 to 1, have a known range. All else is stretched over its own.
    """
    tags = getattr(image, "tag_v2", {})
    is_signed = tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    if image.mode.startswith("I;16"):
        highest = 4095 if tags.get(BITS_PER_SAMPLE) == (12,) else 65535
        levels, said = _stretched(image.convert("F"), 0, highest), None
    elif image.mode == "F":
        levels, said = _floats(image, field)
    elif image.mode == "I":
        is_unsigned = tags.get(BITS_PER_SAMPLE) == (32,) and not is_signed
        levels, said = _own_range(_reread(image, "F;32N") if is_unsigned else image.convert("F"))
    elif image.mode == "L" and is_signed:
        levels, said = _own_range(_reread(image, "F;8S"))
    else:
        return image, []
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = ImageOps.invert(levels)
    levels.info = image.info
    return levels, [said] if said else []


def _floats(image: Image.Image, field: str) -> tuple[Image.Image, str | None]:
    mean = cast(float, image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    low, high = _range(image)
    if not all(map(math.isfinite, (mean, low, high))):
        raise JobError("INVALID_IMAGE", f"{field} has pixels that are not finite numbers", field)
    return (_stretched(image, 0, 1), None) if low >= 0 and high <= 1 else _own_range(image)


def _own_range(image: Image.Image) -> tuple[Image.Image, str]:
    low, high = _range(image)
    said = f"the image's grey values from {low:g} to {high:g} were stretched to black and white"
    return _stretched(image, low, high), said


def _range(image: Image.Image) -> tuple[float, float]:
    return cast(tuple[float, float], image.getextrema())


def _stretched(image: Image.Image, black: float, white: float) -> Image.Image:
    """Mode `F` to `L`, rounded; a range of nothing is black."""
    scale = 255 / (white - black) if white > black else 0.0
    return image.point(lambda value: value * scale + (0.5 - black * scale)).convert("L")


def _reread(image: Image.Image, raw_mode: str) -> Image.Image:
    """The same bytes as what they are: Pillow keeps unsigned 32 bits as signed ones, signed 8 bits as unsigned."""
    return Image.frombytes("F", image.size, image.tobytes(), "raw", raw_mode)


# --- transparency ---


def _over_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """Without an alpha channel or a transparent colour, and whether anything was transparent."""
    if image.mode in ("LA", "RGBA"):
        layers = image
    elif image.mode == "La":
        layers = image.convert("LA")
    elif image.mode in ("RGBa", "PA") or "transparency" in image.info:
        layers = image.convert("RGBA")
    else:
        return image, False
    alpha = layers.getchannel("A")
    colours = layers.convert(layers.mode.removesuffix("A"))
    if alpha.getextrema()[0] == 255:
        return colours, False
    white = Image.new(colours.mode, colours.size, "white")
    white.paste(colours, mask=alpha)
    return white, True


# --- colour spaces ---


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        return _from_profile(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile:
        try:
            return _from_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except MemoryError:
            raise
        except Exception:  # whatever is wrong with a profile, the pixels are there
            pass
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # it is only where the image itself is changed
    return converted
