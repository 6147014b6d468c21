"""Every picture becomes an upright PNG of 8-bit RGB, or one sentence; what is not pixels never decides which."""

import io
import random
import zlib

import pytest
from PIL import Image, ImageCms, PngImagePlugin
from wan_relay.service.media.decoding.parts import ANIMATED, PAGES
from wan_relay.tests.service.media.pictures import (
    ASCII,
    LONG,
    MB,
    PNG,
    RATIONAL,
    SHORT,
    SIGNED_RATIONAL,
    UNDEFINED,
    chunk,
    encoded,
    exif_block,
    grey_tiff,
    picture,
    pixels,
    plain,
    png_file,
    refusal,
    segment,
    tiff_file,
    with_chunks,
    with_riff_chunks,
    with_segments,
)

DAMAGED = "INVALID_IMAGE: image is truncated or damaged (image)"
JPEG = encoded(picture(), "JPEG")
WEBP = encoded(picture(), "WEBP", lossless=True)


def bomb(width: int, height: int) -> bytes:
    return png_file(width, height, 8, 2, bytes(1000))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html>", "INVALID_IMAGE: image is not an image that can be read: it is text/html (image)"),
        (b"", "INVALID_IMAGE: image is not an image that can be read: it is empty (image)"),
        (encoded(picture(size=(400, 300)), "JPEG")[:-700], DAMAGED),
        (PNG[:-30], DAMAGED),
        (encoded(picture(), "WEBP")[:-30], DAMAGED),
        (encoded(picture(), "GIF")[:-30], DAMAGED),
        (encoded(picture(), "BMP")[:-30], DAMAGED),
        (encoded(picture(), "TIFF")[:-30], DAMAGED),
        (bomb(8000, 8000), "IMAGE_TOO_LARGE: image has 8000 x 8000 pixels, at most 50 million are taken (image)"),
        (bomb(50000, 50000), "IMAGE_TOO_LARGE: image has too many pixels, at most 50 million are taken (image)"),
        (
            encoded(picture(size=(1, 1))),
            "IMAGE_TOO_SMALL: image is 1 x 1; each side must be at least 16 pixels and the longer one at most "
            "8 times the shorter (image)",
        ),
        (
            encoded(picture(size=(1600, 16))),
            "IMAGE_TOO_SMALL: image is 1600 x 16; each side must be at least 16 pixels and the longer one at most "
            "8 times the shorter (image)",
        ),
        (
            grey_tiff(64, bytes(8 * 320), sample_format=3),
            "INVALID_IMAGE: image is not an image that can be read: it is a TIFF of a kind that is not supported, "
            "or damaged (image)",
        ),
    ],
)
def test_content_that_is_refused(content: bytes, sentence: str) -> None:
    assert refusal(plain, content, 50 * MB) == sentence


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_pixels_are_those_of_pillow(kind: str) -> None:
    """And the same file gives the same bytes, from which the upload has its name."""
    photo = Image.radial_gradient("L").resize((60, 40)).convert("RGB")
    photo.paste((250, 20, 40), (10, 10, 30, 30))
    content = encoded(photo, kind)
    decoded = plain(content)
    assert decoded.warnings == ()
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert pixels(decoded.png).tobytes() == expected.tobytes()
    assert plain(content) == decoded


# --- orientation ---


def marked(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left."""
    image = picture(size=size, colour=(128, 128, 128))
    width, height = size
    for colour, at in (("red", (0, 0)), ("lime", (width - 8, 0)), ("blue", (0, height - 8))):
        image.paste(colour, (*at, at[0] + 8, at[1] + 8))
    return image


def is_upright(png: bytes) -> bool:
    """As `marked` is after a quarter turn to the right, whatever JPEG did to its colours."""
    image = pixels(png)
    seen = [image.getpixel(at) for at in ((20, 3), (20, 36), (3, 3))]
    names = ["".join("RGB"[band] for band in range(3) if colour[band] > 180) for colour in seen]
    return (image.size, names) == ((24, 40), ["R", "G", "B"])


BAD_TAGS = {
    "a negative fraction of nothing": {282: (SIGNED_RATIONAL, [-1, 0])},
    "a fraction of nothing": {282: (RATIONAL, [1, 0]), 33434: (RATIONAL, [0, 0])},
    "a fraction where text belongs": {271: (RATIONAL, [1, 3]), 272: (SIGNED_RATIONAL, [-1, 3])},
    "text where a number belongs": {282: (ASCII, list(b"many\0")), 296: (ASCII, list(b"x\0"))},
    "bytes where a number belongs": {282: (UNDEFINED, list(b"abcdef")), 34665: (UNDEFINED, list(b"abcdef"))},
    "directories that are nowhere": {34665: (LONG, [0x7FFFFFFF]), 34853: (LONG, [1])},
    "a description that is nowhere": {270: (ASCII, list(b"text that is longer than its entry"))},
}
EXIFS = {name: exif_block(6, tags) for name, tags in BAD_TAGS.items()} | {
    "nothing else": exif_block(6),
    "the other byte order": exif_block(6, order=">"),
    "cut off after the orientation": exif_block(6)[:28],
    "cut off in a description": exif_block(6, BAD_TAGS["a description that is nowhere"])[:40],
}


@pytest.mark.parametrize("name", EXIFS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG after its pixels", "PNG as text", "WEBP"])
def test_a_photo_is_turned_upright_whatever_else_its_exif_says(kind: str, name: str) -> None:
    exif = EXIFS[name]
    if kind == "JPEG":
        content = with_segments(encoded(marked(), "JPEG", quality=95, subsampling=0), segment(0xE1, exif))
    elif kind == "PNG as text":
        text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
        content = with_chunks(encoded(marked()), chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    elif kind == "WEBP":
        webp = encoded(marked(), "WEBP", lossless=True, exif=exif_block(1))
        content = with_riff_chunks(webp.partition(b"EXIF")[0], (b"EXIF", exif))
    else:
        content = with_chunks(encoded(marked()), chunk(b"eXIf", exif[6:]), at_end=kind != "PNG")
    assert is_upright(plain(content).png)


@pytest.mark.parametrize("name", BAD_TAGS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_is_turned_upright_whatever_else_its_tags_say(order: str, name: str) -> None:
    shorts = {256: 40, 257: 24, 259: 1, 262: 2, 274: 6, 277: 3, 278: 24}
    tags = {tag: (SHORT, [value]) for tag, value in shorts.items()} | {258: (SHORT, [8, 8, 8])} | BAD_TAGS[name]
    assert is_upright(plain(tiff_file(tags, marked().tobytes(), order)).png)


def test_a_big_tiff_is_turned_upright_too() -> None:
    content = encoded(marked(), "TIFF", big_tiff=True, tiffinfo={270: "a description", 274: 6, 282: 300.0})
    assert content.startswith(b"II+\0")
    assert is_upright(plain(content).png)


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation(orientation: int) -> None:
    """What a file says is how to turn it; 0 and 9 mean nothing."""
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    expected = marked().transpose(turned[orientation]) if orientation in turned else marked()
    content = with_chunks(encoded(marked()), chunk(b"eXIf", exif_block(orientation)[6:]))
    seen = pixels(plain(content).png)
    assert (seen.size, seen.tobytes()) == (expected.size, expected.tobytes())


def test_xmp_says_the_orientation_where_exif_does_not() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    jpeg = encoded(marked(), "JPEG", quality=95, subsampling=0)
    for content in (
        with_segments(jpeg, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
        with_chunks(encoded(marked()), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        encoded(marked(), "WEBP", lossless=True, xmp=xmp),
    ):
        assert is_upright(plain(content).png)


# --- what is not pixels ---

LONG_TEXT = zlib.compress(bytes(3 * MB))
DESCRIPTIONS = {
    "a profile of 3 MB": with_chunks(PNG, chunk(b"iCCP", b"p\0\0" + LONG_TEXT)),
    "text of 3 MB": with_chunks(PNG, chunk(b"zTXt", b"k\0\0" + LONG_TEXT)),
    "international text of 3 MB": with_chunks(PNG, chunk(b"iTXt", b"k\0\1\0\0\0" + LONG_TEXT)),
    "text of 3 MB at the end": with_chunks(PNG, chunk(b"zTXt", b"k\0\0" + LONG_TEXT), at_end=True),
    "70 MB of text": with_chunks(PNG, *[chunk(b"tEXt", b"k\0" + bytes(MB))] * 70),
    "a text's wrong checksum": with_chunks(PNG, chunk(b"tEXt", b"k\0v")[:-1] + b"?"),
    "a text's wrong checksum at the end": with_chunks(PNG, chunk(b"tEXt", b"k\0v")[:-1] + b"?", at_end=True),
    "unknown compression": with_chunks(PNG, chunk(b"zTXt", b"k\0\7abc"), chunk(b"iCCP", b"p\0\7abc")),
    "an empty profile": with_chunks(PNG, chunk(b"iCCP", b"")),
    "short chunks": with_chunks(PNG, *(chunk(name, b"") for name in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME"))),
    "a broken animation": with_chunks(PNG, chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0")),
    "an unfinished text": PNG[:-12] + (100).to_bytes(4) + b"tEXtabc",
    "bytes after a PNG": PNG + b"trailing" * 1000,
    "short JPEG segments": with_segments(JPEG, *(segment(0xE0 + n, b"") for n in range(16)), segment(0xFE, b"")),
    "a short JFIF": with_segments(JPEG, segment(0xE0, b"JFIF\0")),
    "a short Adobe": with_segments(JPEG, segment(0xEE, b"Adobe")),
    "a broken Photoshop": with_segments(JPEG, segment(0xED, b"Photoshop 3.0\x008BIM\4\4")),
    "a broken profile": with_segments(JPEG, segment(0xE2, b"ICC_PROFILE\0")),
    "a broken MPO": with_segments(JPEG, segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0")),
    "an MPO without entries": with_segments(JPEG, segment(0xE2, b"MPF\0" + tiff_file({0xB001: (LONG, [2])}))),
    "an MPO of another number": with_segments(
        JPEG,
        segment(0xE2, b"MPF\0" + tiff_file({0xB001: (LONG, [3, 2]), 0xB002: (UNDEFINED, [0] * 48)})),
    ),
    "EXIF that is none": with_segments(JPEG, segment(0xE1, b"Exif\0\0nonsense")),
    "EXIF with a wrong resolution": with_segments(JPEG, segment(0xE1, exif_block(1, {282: (ASCII, [0])}))),
    "bytes after a JPEG": JPEG + b"\xff\xd8\xff" + b"trailing" * 1000,
    "broken WebP chunks": with_riff_chunks(WEBP, (b"EXIF", b"nonsense"), (b"ICCP", b""), (b"XMP ", b"\xff")),
    "a WebP's unfinished chunk": WEBP + b"EXIF\xff\xff\xff\x0fabc",
    "bytes after a WebP": WEBP + b"trailing" * 1000,
    "bytes after a GIF": encoded(picture(), "GIF") + b"trailing" * 1000,
    "bytes after a BMP": encoded(picture(), "BMP") + b"trailing" * 1000,
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_what_is_not_pixels_does_not_matter(name: str) -> None:
    decoded = plain(DESCRIPTIONS[name])
    red, green, blue = pixels(decoded.png).getpixel((20, 12))
    assert (pixels(decoded.png).size, decoded.warnings) == ((40, 24), ())
    assert abs(red - 200) + abs(green - 30) + abs(blue - 90) < 8


def test_the_colours_of_a_jpeg_do_not_depend_on_its_other_segments() -> None:
    """JFIF and Adobe segments say what the components are, so they stay."""
    for options in ({}, {"keep_rgb": True}):
        content = encoded(picture(), "JPEG", quality=95, **options)
        expected = Image.open(io.BytesIO(content)).convert("RGB")
        assert pixels(plain(with_segments(content, segment(0xE5, b"x"))).png).tobytes() == expected.tobytes()
    cmyk = encoded(picture("CMYK", colour=(0, 255, 255, 0)), "JPEG")
    assert pixels(plain(cmyk).png).getpixel((5, 5))[0] > 250


def test_colour_profile_is_converted_to_srgb() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red_is_green = srgb.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        same = pixels(plain(encoded(picture(), kind, icc_profile=srgb, **options)).png)
        assert max(abs(a - b) for a, b in zip(same.getpixel((5, 5)), (200, 30, 90), strict=True)) <= 2
        other = pixels(plain(encoded(picture(), kind, icc_profile=red_is_green, **options)).png)
        red, green, _ = other.getpixel((5, 5))
        assert green > 150 > red
        broken = pixels(plain(encoded(picture(), kind, icc_profile=b"nonsense", **options)).png)
        assert max(abs(a - b) for a, b in zip(broken.getpixel((5, 5)), (200, 30, 90), strict=True)) <= 2
    palette = pixels(plain(encoded(picture().quantize(), icc_profile=red_is_green)).png)
    assert palette.getpixel((5, 5))[1] > 150
    in_segments = encoded(picture(), "JPEG", icc_profile=red_is_green + bytes(100_000))
    assert in_segments.count(b"ICC_PROFILE\0") == 2
    assert pixels(plain(in_segments).png).getpixel((5, 5))[1] > 150


# --- frames ---


def test_animation_gives_its_first_frame() -> None:
    frames = [picture(colour=(0, 0, 250)), picture(colour=(250, 0, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        decoded = plain(content)
        assert decoded.warnings == (ANIMATED,)
        red, _, blue = pixels(decoded.png).getpixel((9, 9))
        assert blue > 240 > 10 > red


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_a_good_first_frame_is_taken_whatever_follows(kind: str) -> None:
    noise = Image.frombytes("RGB", (40, 24), random.Random(1).randbytes(40 * 24 * 3))
    content = encoded(picture(), kind, save_all=True, append_images=[noise] * 3)
    damaged = content[:-400] + bytes(200)
    decoded = plain(damaged)
    warning = {"TIFF": (PAGES,), "MPO": ()}.get(kind, (ANIMATED,))
    red, green, blue = pixels(decoded.png).getpixel((9, 9))
    assert decoded.warnings == warning
    assert abs(red - 200) + abs(green - 30) + abs(blue - 90) < 8


def test_text_in_a_png_is_not_handed_on() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "secret")
    decoded = plain(encoded(picture(), pnginfo=info, dpi=(300, 300), exif=exif_block(1)))
    assert b"secret" not in decoded.png
    assert decoded == plain(PNG)
