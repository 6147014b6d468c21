"""The demo's images and its file."""

from pathlib import Path

import pytest
from PIL import Image
from wan_relay.tools.demo import check_image, write_whole
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


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "taken.mp4"
    target.mkdir()
    with pytest.raises(OSError):
        write_whole(target, b"data")
    assert list(tmp_path.iterdir()) == [target]
    write_whole(tmp_path / "clip.mp4", b"data")
    assert (tmp_path / "clip.mp4").read_bytes() == b"data"
