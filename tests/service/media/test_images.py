"""Rows 6-24 of the list of bad inputs: images from base64, URLs and the volume."""

import asyncio
import base64
import io
import os
import struct
import zlib

import pytest
from aiohttp import web
from PIL import Image, ImageCms
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media.images import (
    PlainImage,
    decode_base64,
    fetch,
    is_public_address,
    load_image,
    make_plain,
    read_from_volume,
)
from wan_relay.service.worker.settings import Settings

MB = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24), colour=None) -> Image.Image:
    return Image.new(mode, size, colour if colour is not None else (200, 30, 90))


PNG = encoded(picture())


def refusal(call, *args) -> str:
    with pytest.raises(JobError) as caught:
        call(*args)
    return str(caught.value)


def decoded(plain: PlainImage) -> Image.Image:
    return Image.open(io.BytesIO(plain.content))


def test_base64_in_every_honest_spelling():
    content = bytes(range(256)) + b"\xfb\xff\xfe"
    text = base64.b64encode(content).decode()
    lines = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for spelling in (
        text,
        text.rstrip("="),
        lines,
        f"  {text}\n",
        base64.urlsafe_b64encode(content).decode(),
        f"data:image/png;base64,{text}",
        f"data:;base64,{text}",
        f"DATA:image/jpeg;charset=utf-8;BASE64,{lines}",
        f"data:text/html;base64,{text}",
    ):
        assert decode_base64(spelling, MB, "image_base64") == content


@pytest.mark.parametrize("text", ["not base64!", "====", "a", "data:image/png,abc", "абв", "iVBOR*w0", "data:"])
def test_base64_that_is_none(text):
    if text == "====":
        assert decode_base64(text, MB, "image_base64") == b""
        assert refusal(make_plain, b"", MB, "f").startswith("INVALID_IMAGE")
    else:
        assert refusal(decode_base64, text, MB, "image_base64").startswith("INVALID_IMAGE: image_base64 is ")


def test_base64_over_the_cap():
    expected = "IMAGE_TOO_LARGE: image_base64 is larger than 1 MB (image_base64)"
    assert refusal(decode_base64, base64.b64encode(bytes(MB + 1)).decode(), MB, "image_base64") == expected
    assert refusal(decode_base64, "A" * 3 * MB, MB, "image_base64") == expected


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


@pytest.fixture
def volume(tmp_path):
    root = tmp_path / "volume"
    (root / "images").mkdir(parents=True)
    (root / "images" / "photo.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "images" / "leak.png").symlink_to(tmp_path / "secret.png")
    (root / "images" / "alias.png").symlink_to(root / "images" / "photo.png")
    os.mkfifo(root / "pipe.png")
    (root / "big.png").write_bytes(bytes(MB + 1))
    return root


def test_volume_path(volume):
    outside = "INVALID_PATH: image_path must be a file under the network volume (image_path)"
    regular = "INVALID_PATH: image_path must be a regular file (image_path)"
    absent = "FILE_NOT_FOUND: image_path names no file on the network volume (image_path)"
    for path in ("images/photo.png", "images/alias.png"):
        assert read_from_volume(f"{volume}/{path}", volume, MB, "image_path") == PNG
    for path, sentence in {
        f"{volume}/../secret.png": outside,
        f"{volume}/images/leak.png": outside,
        "/proc/self/environ": outside,
        "../../etc/passwd": outside,
        "images/photo.png": outside,
        "/dev/zero": outside,
        f"{volume}-other/photo.png": outside,
        "": outside,
        f"{volume}/images": regular,
        f"{volume}/pipe.png": regular,
        f"{volume}/none.png": absent,
        f"{volume}/images/photo.png [output]": absent,
        f"{volume}/images/photo.png/x": absent,
        f"{volume}/big.png": "IMAGE_TOO_LARGE: image_path is larger than 1 MB (image_path)",
    }.items():
        assert refusal(read_from_volume, path, volume, MB, "image_path") == sentence, path
    assert read_from_volume(f"{volume}/images/photo.png", volume, MB, "image_path") == PNG


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("168.63.129.16", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("nonsense", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public_address(address) is public


BLOCKED = "BLOCKED_URL: the host of image_url is not allowed (image_url)"
SCHEME = "INVALID_URL: image_url must be an http or https URL (image_url)"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///etc/passwd", SCHEME),
        ("ftp://example.com/a.png", SCHEME),
        ("gopher://example.com/", SCHEME),
        ("-O/etc/passwd", SCHEME),
        ("http:///a.png", SCHEME),
        ("http://exa mple.com/a.png", "INVALID_URL"),
        ("http://example.com:99999/", "INVALID_URL"),
        ("http://169.254.169.254/latest/meta-data/", BLOCKED),
        ("http://127.0.0.1:8188/system_stats", BLOCKED),
        ("http://10.0.0.8/a.png", BLOCKED),
        ("http://[::1]:8188/", BLOCKED),
        ("http://[::ffff:127.0.0.1]/", BLOCKED),
        ("http://2130706433/", BLOCKED),
        ("http://0x7f000001/", BLOCKED),
        ("http://127.1/", BLOCKED),
        ("http://0177.0.0.1/", BLOCKED),
        ("http://①②⑦.⓪.⓪.①/", BLOCKED),
        ("http://localhost:8188/", BLOCKED),
        ("http://user@example.com/", BLOCKED),
        ("http://example.com@169.254.169.254/", BLOCKED),
    ],
)
def test_url_that_is_refused_before_any_request(url, sentence):
    with pytest.raises(JobError) as caught:
        asyncio.run(asyncio.wait_for(fetch(url, MB, 10, "image_url"), 30))
    assert str(caught.value).startswith(sentence)


def serve(
    handler, path: str, timeout_s: float = 20.0, is_allowed=lambda address: address == "127.0.0.1"
) -> bytes | str:
    """What fetch gives for a local server's path: the bytes, or the error's text."""

    async def main() -> bytes | str:
        app = web.Application()
        app.router.add_get("/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            return await fetch(f"http://127.0.0.1:{port}{path}", MB, timeout_s, "image_url", is_allowed)
        except JobError as error:
            return str(error)
        finally:
            await runner.cleanup()

    return asyncio.run(asyncio.wait_for(main(), 60))


async def misbehaving(request: web.Request) -> web.StreamResponse:
    """A server with one path for each fault."""
    kind = request.path.strip("/")
    if kind == "image":
        return web.Response(body=PNG)
    if kind.isdigit():
        return web.Response(status=int(kind))
    redirects = {
        "hop": "/image",
        "loop": "/loop",
        "private": "http://10.0.0.1/a.png",
        "metadata": "http://169.254.169.254/latest/",
        "scheme": "file:///etc/passwd",
    }
    if kind in redirects:
        return web.Response(status=302, headers={"Location": redirects[kind]})
    if kind == "declared":
        return web.Response(body=bytes(MB + 1))
    if kind == "gzip":
        return web.Response(body=zlib.compress(bytes(100)), headers={"Content-Encoding": "gzip"})
    response = web.StreamResponse()
    await response.prepare(request)
    if kind == "endless":
        while True:
            await response.write(bytes(100_000))
    if kind == "slow":
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)
    if kind == "cut":
        response.force_close()
        assert request.transport is not None
        request.transport.abort()
    return response


TOO_LARGE = "IMAGE_TOO_LARGE: image_url is larger than 1 MB (image_url)"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/image", PNG),
        ("/hop", PNG),
        ("/404", "DOWNLOAD_FAILED: the server of image_url answered HTTP 404 (image_url)"),
        ("/500", "DOWNLOAD_FAILED: the server of image_url answered HTTP 500 (image_url)"),
        ("/200", "DOWNLOAD_FAILED: the server of image_url sent an empty body (image_url)"),
        ("/loop", "DOWNLOAD_FAILED: image_url redirects more than 5 times (image_url)"),
        ("/private", BLOCKED),
        ("/metadata", BLOCKED),
        ("/scheme", SCHEME),
        ("/declared", TOO_LARGE),
        ("/endless", TOO_LARGE),
        ("/gzip", "DOWNLOAD_FAILED: the server of image_url sent a compressed body (image_url)"),
        ("/cut", "DOWNLOAD_FAILED: image_url could not be downloaded (image_url)"),
    ],
)
def test_url_of_a_misbehaving_server(path, answer):
    assert serve(misbehaving, path) == answer


def test_slow_server_meets_the_total_deadline():
    assert serve(misbehaving, "/slow", 0.6) == "DOWNLOAD_TIMEOUT: image_url was not downloaded within 0.6 s (image_url)"


def test_url_may_be_a_data_uri(tmp_path):
    settings = Settings.from_environment({"WAN_RELAY_VOLUME": str(tmp_path)})
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert asyncio.run(load_image("image_url", uri, settings.image_limits)).content == PNG
    (tmp_path / "a.png").write_bytes(PNG)
    assert asyncio.run(load_image("end_image_path", f"{tmp_path}/a.png", settings.image_limits)).content == PNG
