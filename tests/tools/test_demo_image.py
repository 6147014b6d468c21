"""Which pictures the demo takes: those that Load Image makes whole."""

from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from wan_relay.tools.demo_image import check_image
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE
from wan_relay.tools.processes import DevError


def test_bad_images_are_refused_before_comfyui_starts(tmp_path: Path) -> None:
    text, cut, dot = tmp_path / "text.png", tmp_path / "cut.jpg", tmp_path / "dot.png"
    text.write_text("not a picture")
    cut.write_bytes(EXAMPLE_IMAGE.read_bytes()[:20000])
    Image.new("RGB", (1, 1)).save(dot)
    for path, sentence in {
        text: f"{text} is not an image that can be read: cannot identify image file.",
        cut: f"{cut} is not an image that can be read: image file is truncated",
        dot: f"{dot} is 1 x 1 pixels; expected at least 16 x 16.",
    }.items():
        with pytest.raises(DevError) as refused:
            check_image(path)
        assert str(refused.value).startswith(sentence)
    check_image(EXAMPLE_IMAGE)


def test_an_image_is_taken_where_load_image_makes_it_whole(tmp_path: Path) -> None:
    """Animated WebP and TIFF with transparency are for Pillow; FFmpeg does not see what is wrong beside the pixels."""
    photo = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    long_text, exif, path = PngInfo(), Image.Exif(), tmp_path / "image"
    long_text.add_text("workflow", "x" * 3_000_000, zip=True)
    exif[0x0112] = 6
    for name, image, options in (
        ("text.png", photo, {"pnginfo": long_text}),
        ("profile.png", photo, {"icc_profile": bytes(3_000_000)}),
        ("exif.jpg", photo, {"exif": exif}),
        ("plain.tif", photo.convert("I;16"), {}),
        ("clear.tif", photo.convert("RGBA"), {}),
        ("moving.webp", photo, {"save_all": True, "append_images": [photo.rotate(5)]}),
        ("moving.gif", photo, {"save_all": True, "append_images": [photo.rotate(5)]}),
        ("photo.avif", photo, {}),
    ):
        path = tmp_path / name
        image.save(path, **options)
        check_image(path)
    broken = EXAMPLE_IMAGE.read_bytes()
    path = tmp_path / "photoshop.jpg"
    path.write_bytes(broken[:2] + b"\xff\xed\0\x16Photoshop 3.0\x008BIM\4\4" + broken[2:])
    check_image(path)


def test_an_image_is_refused_where_load_image_would_not_make_it_whole(tmp_path: Path) -> None:
    photo = Image.effect_noise((64, 48), 90).convert("RGB")
    long_text = PngInfo()
    long_text.add_text("workflow", "x" * 3_000_000, zip=True)
    for name, image, options, cut, reason in (
        ("cut.png", photo, {"pnginfo": long_text}, 2000, "Decompressed data too large"),
        ("cut.webp", photo, {}, 200, "could not create decoder object"),
        ("cut.gif", photo, {}, 200, "image file is truncated"),
        ("cut.tif", photo, {}, 2000, "image file is truncated"),
        ("float.tif", photo.convert("F"), {}, 0, "ComfyUI makes pixels of 32 bits black or white"),
        ("icon.icns", photo, {}, 0, "ComfyUI cannot open this format"),
        ("icon.ico", photo, {}, 0, "ComfyUI cannot open this format"),
    ):
        path = tmp_path / name
        image.save(path, **options)
        path.write_bytes(path.read_bytes()[: -cut or None])
        with pytest.raises(DevError) as refused:
            check_image(path)
        assert str(refused.value).startswith(f"{path} is not an image that can be read: {reason}")
