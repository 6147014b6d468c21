"""The value of a pixel is the one that was meant, in every mode that Pillow has."""

import math
import struct

import pytest
from PIL import Image, ImageCms
from wan_relay.service.media.decoding.colours import OVER_WHITE, to_rgb
from wan_relay.tests.service.media.pictures import (
    SHORT,
    chunk,
    encoded,
    grey_tiff,
    picture,
    pixels,
    plain,
    png_file,
    refusal,
    tiff_file,
)

STRETCHED = "the image's grey values from {:g} to {:g} were stretched to black and white"
PINK = (200, 30, 90)


def lab(colour: tuple[int, int, int]) -> Image.Image:
    srgb, space = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(picture(colour=colour), srgb, space, outputMode="LAB")
    assert converted is not None
    return converted


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (picture("1", colour=1), (255, 255, 255)),
        (picture("1", colour=0), (0, 0, 0)),
        (picture("L", colour=77), (77, 77, 77)),
        (picture().quantize(), PINK),
        (picture("LA", colour=(77, 255)), (77, 77, 77)),
        (picture("LA", colour=(77, 255)).convert("La"), (77, 77, 77)),
        (picture().quantize().convert("PA"), PINK),
        (picture(), PINK),
        (picture("RGBA", colour=(*PINK, 255)), PINK),
        (picture("RGBA", colour=(*PINK, 255)).convert("RGBa"), PINK),
        (picture("RGBX", colour=(*PINK, 0)), PINK),
        (picture("CMYK", colour=(0, 255, 255, 0)), (255, 0, 0)),
        (picture().convert("YCbCr"), PINK),
        (picture().convert("HSV"), PINK),
        (lab(PINK), PINK),
        *[(picture(mode, colour=257 * 100), (100, 100, 100)) for mode in ("I;16", "I;16L", "I;16B", "I;16N")],
        *[(picture(mode, colour=65535), (255, 255, 255)) for mode in ("I;16", "I;16L", "I;16B", "I;16N")],
        (picture("F", colour=0.5), (128, 128, 128)),
        (picture("F", colour=1.0), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_rgb(image: Image.Image, colour: tuple[int, int, int]) -> None:
    rgb, warnings = to_rgb(image, None, "image")
    assert (rgb.mode, rgb.size, warnings) == ("RGB", image.size, [])
    assert max(abs(a - b) for a, b in zip(rgb.getpixel((5, 5)), colour, strict=True)) <= 3


# --- files with more than 8 bits; 20 x 16 pixels, of which the first and the last count ---


def ends(content: bytes) -> tuple[int, int, tuple[str, ...]]:
    """The first and the last pixel's grey, and the warnings."""
    decoded = plain(content)
    image = pixels(decoded.png)
    first, last = image.getpixel((0, 0)), image.getpixel((19, 15))
    assert len({*first}) == len({*last}) == 1
    return first[0], last[0], decoded.warnings


def values(letter: str, first: float, last: float, order: str = "<") -> bytes:
    return struct.pack(f"{order}320{letter}", first, *[first] * 318, last)


def twelve_bits(first: int, last: int) -> bytes:
    bits = "".join(format(value, "012b") for value in [first, *[first] * 318, last])
    return int(bits, 2).to_bytes(len(bits) // 8)


GREYS = {
    "16 bits": (grey_tiff(16, values("H", 0, 25700)), (0, 100, ())),
    "16 bits, big end first": (grey_tiff(16, values("H", 65535, 25700, ">"), order=">"), (255, 100, ())),
    "16 bits, white is zero": (grey_tiff(16, values("H", 0, 25700), photometric=0), (255, 155, ())),
    "12 bits": (grey_tiff(12, twelve_bits(4095, 2048)), (255, 128, ())),
    "8 bits": (grey_tiff(8, values("B", 0, 100)), (0, 100, ())),
    "8 bits, white is zero": (grey_tiff(8, values("B", 0, 100), photometric=0), (255, 155, ())),
    "8 signed bits": (grey_tiff(8, values("b", -100, 27), sample_format=2), (0, 255, (STRETCHED.format(-100, 27),))),
    "16 signed bits": (grey_tiff(16, values("h", -9, 1000), sample_format=2), (0, 255, (STRETCHED.format(-9, 1000),))),
    "32 bits": (grey_tiff(32, values("I", 5, 4 * 10**9)), (0, 255, (STRETCHED.format(5, 4 * 10**9),))),
    "32 signed bits": (
        grey_tiff(32, values("i", -(10**9), 10**9), sample_format=2),
        (0, 255, (STRETCHED.format(-(10**9), 10**9),)),
    ),
    "floats up to 1": (grey_tiff(32, values("f", 0.25, 1), sample_format=3), (64, 255, ())),
    "floats up to 1, big end first": (
        grey_tiff(32, values("f", 0.25, 1, ">"), sample_format=3, order=">"),
        (64, 255, ()),
    ),
    "floats up to 1, white is zero": (
        grey_tiff(32, values("f", 0.25, 1), sample_format=3, photometric=0),
        (191, 0, ()),
    ),
    "floats beyond 1": (
        grey_tiff(32, values("f", -2.5, 812.5), sample_format=3),
        (0, 255, (STRETCHED.format(-2.5, 812.5),)),
    ),
    "one float beyond 1": (grey_tiff(32, values("f", 7, 7), sample_format=3), (0, 0, (STRETCHED.format(7, 7),))),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_of_more_than_8_bits(name: str) -> None:
    content, expected = GREYS[name]
    assert ends(content) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [True, False])
def test_floats_that_are_not_numbers_are_refused(first: bool, value: float) -> None:
    content = grey_tiff(32, values("f", value if first else 0.5, 0.5 if first else value), sample_format=3)
    assert refusal(plain, content) == "INVALID_IMAGE: image has pixels that are not finite numbers (image)"


def test_a_lab_file_has_signed_colours() -> None:
    """TIFF 6.0, section 23: L from 0 to 255, a and b from -128 to 127. This is sRGB's red, under D50."""
    shorts = {256: 20, 257: 16, 259: 1, 262: 8, 277: 3, 278: 16}
    tags = {tag: (SHORT, [value]) for tag, value in shorts.items()} | {258: (SHORT, [8, 8, 8])}
    red = struct.pack("Bbb", round(54.29 * 2.55), 81, 70)
    seen = pixels(plain(tiff_file(tags, red * 320)).png).getpixel((9, 9))
    assert max(abs(a - b) for a, b in zip(seen, (255, 0, 0), strict=True)) <= 6


@pytest.mark.parametrize(
    ("depth", "white", "key", "is_clear"),
    [
        (1, 0x80, 1, True),
        (2, 0xAA, 2, True),
        (2, 0xAA, 1, False),
        (4, 0x99, 9, True),
        (8, 99, 99, True),
        (8, 99, 98, False),
        (16, 99, 99 * 257, True),
        (16, 99, 100 * 257, False),
    ],
)
def test_a_transparent_grey_is_found_at_every_depth(depth: int, white: int, key: int, is_clear: bool) -> None:
    row = b"\0" + bytes([0xFF if depth == 1 else white] * (20 * depth // 8 + (20 * depth % 8 > 0)))
    decoded = plain(png_file(20, 16, depth, 0, row * 16, chunk(b"tRNS", struct.pack(">H", key))))
    assert decoded.warnings == ((OVER_WHITE,) if is_clear else ())
    assert (pixels(decoded.png).getpixel((9, 9)) == (255, 255, 255)) is is_clear


@pytest.mark.parametrize(("key", "is_clear"), [(0x0A0B, True), (0x0B0B, False), (0x010A, False)])
def test_a_transparent_colour_of_16_bits_is_that_colour(key: int, is_clear: bool) -> None:
    row = b"\0" + struct.pack(">HHH", 0x0A0B, 0x0A0B, 0x0A0B) * 20
    decoded = plain(png_file(20, 16, 16, 2, row * 16, chunk(b"tRNS", struct.pack(">HHH", key, key, key))))
    expected = ((255, 255, 255), (OVER_WHITE,)) if is_clear else ((10, 10, 10), ())
    assert (pixels(decoded.png).getpixel((9, 9)), decoded.warnings) == expected


def test_transparency_is_laid_over_white() -> None:
    for mode, clear, solid in (("RGBA", (0, 0, 0, 0), (255, 0, 0, 255)), ("LA", (0, 0), (80, 255))):
        image = picture(mode, colour=clear)
        image.putpixel((3, 3), solid)
        image.putpixel((4, 4), (*clear[:-1], 128))
        decoded = plain(encoded(image))
        seen = pixels(decoded.png)
        colour = solid[:3] if mode == "RGBA" else (80, 80, 80)
        assert decoded.warnings == (OVER_WHITE,)
        assert [seen.getpixel(at) for at in ((0, 0), (3, 3), (4, 4))] == [(255,) * 3, colour, (127,) * 3]
