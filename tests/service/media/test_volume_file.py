"""Files of the network volume."""

import errno
import os
from pathlib import Path

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media import volume_file
from wan_relay.service.media.volume_file import read_from_volume
from wan_relay.tests.service.media.pictures import MB, PNG, refusal

SECRET = b"secret"


@pytest.fixture
def volume(tmp_path):
    root = tmp_path / "volume"
    (root / "images" / "deep").mkdir(parents=True)
    (root / "images" / "photo.png").write_bytes(PNG)
    (root / "images" / "deep" / "photo.png").write_bytes(PNG)
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (tmp_path / "outside" / "photo.png").write_bytes(SECRET)
    (tmp_path / "outside" / "deep" / "photo.png").write_bytes(SECRET)
    (root / "images" / "leak.png").symlink_to(tmp_path / "outside" / "photo.png")
    (root / "images" / "alias.png").symlink_to(root / "images" / "photo.png")
    (root / "folder").symlink_to("images/deep")
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    (root / "big.png").write_bytes(bytes(MB + 1))
    return root


def test_volume_path(volume):
    # Of the folder's name only the last part is shown.
    outside = "INVALID_PATH: image_path must be a file under the network volume, which is volume here (image_path)"
    regular = "INVALID_PATH: image_path must be a regular file (image_path)"
    absent = "FILE_NOT_FOUND: image_path names no file on the network volume (image_path)"
    for path in ("images/photo.png", "images/alias.png", "images/deep/photo.png", "folder/photo.png"):
        assert read_from_volume(f"{volume}/{path}", volume, MB, "image_path") == PNG
    for path, sentence in {
        f"{volume}/../outside/photo.png": outside,
        f"{volume}/images/leak.png": outside,
        "/proc/self/environ": outside,
        "../../etc/passwd": outside,
        "images/photo.png": outside,
        "/dev/zero": outside,
        f"{volume}-other/photo.png": outside,
        "": outside,
        "/": outside,
        f"{volume}": regular,
        f"{volume}/images": regular,
        f"{volume}/pipe.png": regular,
        f"{volume}/none.png": absent,
        f"{volume}/images/photo.png [output]": absent,
        f"{volume}/images/photo.png/x": absent,
        f"{volume}/loop.png": "INVALID_PATH: image_path cannot be opened (image_path)",
        f"{volume}/{'a' * 300}.png": "INVALID_PATH: image_path cannot be opened (image_path)",
        f"{volume}/big.png": "IMAGE_TOO_LARGE: image_path is larger than 1 MB (image_path)",
    }.items():
        assert refusal(read_from_volume, path, volume, MB, "image_path") == sentence, path
    assert read_from_volume(f"{volume}/images/photo.png", volume, MB, "image_path") == PNG


@pytest.mark.parametrize("name", ["/workspace", "/runpod-volume"])
def test_volume_by_its_name_in_a_pod_or_in_a_worker(volume, name):
    assert read_from_volume(f"{name}/images/photo.png", volume, MB, "image_path") == PNG
    outside = "INVALID_PATH: image_path must be a file under the network volume, which is volume here (image_path)"
    for path in (f"{name}/../outside/photo.png", f"{name}/images/leak.png", f"{name}-other/a.png", name):
        assert refusal(read_from_volume, path, volume, MB, "image_path") == outside, path
    absent = "FILE_NOT_FOUND: image_path names no file on the network volume (image_path)"
    assert refusal(read_from_volume, f"{name}/none.png", volume, MB, "image_path") == absent


def test_refusal_says_where_the_volume_is():
    for volume in (Path("/runpod-volume"), Path("/workspace")):
        assert refusal(read_from_volume, "/data/a.png", volume, MB, "image_path") == (
            f"INVALID_PATH: image_path must be a file under the network volume, which is {volume} here (image_path)"
        )


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []


@pytest.mark.parametrize("swapped", ["images", "images/deep", "images/deep/photo.png"])
@pytest.mark.parametrize("opened", range(5))
def test_folder_that_is_swapped_for_a_link_between_check_and_read(volume, tmp_path, monkeypatch, swapped, opened):
    """Before each single opening; the answer is the file that was asked for, or a refusal."""
    calls = []
    really_open = os.open
    twin = tmp_path / "outside" / Path(swapped).relative_to("images")

    def swap_then_open(*args, **options):
        if len(calls) == opened:
            (volume / swapped).rename(tmp_path / "aside")
            (volume / swapped).symlink_to(twin)
        calls.append(args)
        return really_open(*args, **options)

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(volume_file.os, "open", swap_then_open)
        try:
            answer = read_from_volume(f"{volume}/images/deep/photo.png", volume, MB, "image_path")
        except JobError as error:
            answer = error.code
    was_open_already = opened > swapped.count("/") + 1
    assert answer in ([PNG] if was_open_already else ["FILE_NOT_FOUND", "INVALID_PATH"])
    assert open_files() == before


def test_link_that_is_gone_when_it_is_read(volume, monkeypatch):
    def gone(*_, **__):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "readlink", gone)
    expected = "INVALID_PATH: image_path cannot be opened (image_path)"
    assert refusal(read_from_volume, f"{volume}/images/alias.png", volume, MB, "image_path") == expected
