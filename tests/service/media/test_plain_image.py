"""Every picture becomes upright 8-bit RGB, or one sentence."""

import struct
import zlib

import pytest
from PIL import Image, ImageCms
from wan_relay.service.media.plain_image import make_plain
from wan_relay.tests.service.media.pictures import MB, PNG, decoded, encoded, picture, refusal


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html>", "INVALID_IMAGE: image is not an image that can be read: it is text/html (image)"),
        (b"%PDF-1.7", "INVALID_IMAGE: image is not an image that can be read: it is application/pdf (image)"),
        (b"PK\x03\x04aaaa", "INVALID_IMAGE: image is not an image that can be read: it is a zip archive (image)"),
        (
            b"\x00\x00\x00\x20ftypisom",
            "INVALID_IMAGE: image is not an image that can be read: it is a video (image)",
        ),
        (
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
            "INVALID_IMAGE: image is not an image that can be read: SVG is not supported (image)",
        ),
        (b"", "INVALID_IMAGE: image is not an image that can be read: it is empty (image)"),
        (encoded(picture(size=(400, 300)), "JPEG")[:-700], "INVALID_IMAGE: image is truncated or damaged (image)"),
        (PNG[:-30], "INVALID_IMAGE: image is truncated or damaged (image)"),
        (
            bomb(8000, 8000),
            "IMAGE_TOO_LARGE: image has 8000 x 8000 pixels, at most 50 million are taken (image)",
        ),
        (bomb(50000, 50000), "IMAGE_TOO_LARGE: image has too many pixels (image)"),
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
    ],
)
def test_content_that_is_refused(content, sentence):
    assert refusal(make_plain, content, 50 * MB, "image") == sentence


@pytest.mark.parametrize(("kind", "extension"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_plain_file_goes_on_byte_for_byte(kind, extension):
    content = encoded(picture(), kind)
    plain = make_plain(content, MB, "image")
    assert (plain.content, plain.extension, plain.warnings) == (content, extension, ())
    assert plain.name.startswith("wan_relay_")
    assert plain.name == make_plain(content, MB, "image").name


def test_rotated_phone_photo_is_turned_upright():
    photo = picture(size=(40, 24))
    photo.putpixel((0, 0), (0, 255, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decoded(make_plain(encoded(photo, "PNG", exif=exif), MB, "image"))
    assert upright.size == (24, 40)
    assert upright.getpixel((23, 0)) == (0, 255, 0)
    assert upright.getexif().get(0x0112) is None


def test_transparency_is_laid_over_white():
    clear = picture("RGBA", colour=(0, 0, 0, 0))
    clear.putpixel((3, 3), (255, 0, 0, 255))
    plain = make_plain(encoded(clear), MB, "image")
    assert plain.warnings == ("the image has transparency; it was laid over white",)
    result = decoded(plain)
    assert (result.mode, result.getpixel((0, 0)), result.getpixel((3, 3))) == ("RGB", (255, 255, 255), (255, 0, 0))


def test_animation_gives_its_first_frame():
    frames = [picture(colour=(0, 0, 250)), picture(colour=(250, 0, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        plain = make_plain(content, MB, "image")
        assert plain.warnings == ("the image is animated; its first frame is used",)
        red, _, blue = decoded(plain).getpixel((9, 9))
        assert blue > 240 > 10 > red


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (picture("CMYK", colour=(0, 255, 255, 0)), "JPEG", (254, 0, 0)),
        (picture("I;16", colour=257 * 100), "PNG", (100, 100, 100)),
        (picture("L", colour=77), "PNG", (77, 77, 77)),
        (picture("1", colour=1), "PNG", (255, 255, 255)),
        (picture().quantize(), "PNG", (200, 30, 90)),
        (picture("RGBA", colour=(1, 2, 3, 255)), "PNG", (1, 2, 3)),
    ],
)
def test_every_mode_becomes_rgb(image, kind, colour):
    plain = make_plain(encoded(image, kind), MB, "image")
    result = decoded(plain)
    assert (result.mode, plain.warnings) == ("RGB", ())
    assert max(abs(a - b) for a, b in zip(result.getpixel((5, 5)), colour, strict=True)) <= 2


def test_colour_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = decoded(make_plain(encoded(picture(), icc_profile=srgb), MB, "image"))
    assert same.getpixel((5, 5)) == (200, 30, 90)
    red_is_green = srgb.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")
    other = decoded(make_plain(encoded(picture(), icc_profile=red_is_green), MB, "image"))
    red, green, _ = other.getpixel((5, 5))
    assert green > 150 > red
    assert "icc_profile" not in other.info
    broken = decoded(make_plain(encoded(picture(), icc_profile=b"nonsense"), MB, "image"))
    assert broken.getpixel((5, 5)) == (200, 30, 90)
