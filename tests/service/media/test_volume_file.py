"""Files of the network volume."""

import os

import pytest
from wan_relay.service.media.volume_file import read_from_volume
from wan_relay.tests.service.media.pictures import MB, PNG, refusal


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
