import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from wan_relay.nodes.engine.files.whole_file import save_whole, whole_or_none
from wan_relay.nodes.rules.errors import VideoNotSaved


class Cancelled(BaseException):
    """What ComfyUI raises when a prompt is cancelled is no Exception either."""


def name(number: int) -> str:
    return f"clip_{number}.mp4"


def content(text: str):
    return lambda path: path.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_the_first_free_name(tmp_path):
    (tmp_path / "clip_3.mp4").write_text("old")
    assert save_whole(tmp_path, name, 3, content("new")) == tmp_path / "clip_4.mp4"
    assert (tmp_path / "clip_3.mp4").read_text() == "old"
    assert (tmp_path / "clip_4.mp4").read_text() == "new"
    assert names(tmp_path) == ["clip_3.mp4", "clip_4.mp4"]


def test_the_name_appears_only_when_the_content_is_complete(tmp_path):
    def write(path: Path) -> None:
        path.write_text("half")
        assert not (tmp_path / "clip_1.mp4").exists()
        path.write_text("whole")

    save_whole(tmp_path, name, 1, write)
    assert names(tmp_path) == ["clip_1.mp4"]


@pytest.mark.parametrize("error", [Cancelled(), ValueError("no such codec"), KeyboardInterrupt()])
def test_whatever_stops_the_writing_leaves_nothing_and_comes_through(tmp_path, error):
    def write(path: Path) -> None:
        path.write_text("half")
        raise error

    with pytest.raises(type(error)) as raised:
        save_whole(tmp_path, name, 1, write)
    assert raised.value is error
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [Cancelled(), ValueError("no such codec")])
def test_of_several_files_none_is_left_where_one_fails(tmp_path, error):
    def save() -> Path:
        return save_whole(tmp_path, name, 1, content("whole"))

    def fail() -> Path:
        raise error

    assert whole_or_none(save, save) == [tmp_path / "clip_1.mp4", tmp_path / "clip_2.mp4"]
    with pytest.raises(type(error)) as raised:
        whole_or_none(save, save, fail, save)
    assert raised.value is error
    assert names(tmp_path) == ["clip_1.mp4", "clip_2.mp4"]


def test_what_a_killed_process_left_goes_with_a_later_save(tmp_path):
    left, beside, foreign = (f".{letter * 32}.unfinished" for letter in "abx")
    for hidden in (left, beside, foreign):
        (tmp_path / hidden).write_text("half")
    for hidden in (left, foreign):
        os.utime(tmp_path / hidden, (time.time() - 3700,) * 2)
    save_whole(tmp_path, name, 1, content("new"))
    assert names(tmp_path) == sorted([beside, foreign, "clip_1.mp4"]), "one still grows, one is not ours"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the folder cannot be written to"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_disk_is_said_in_words(tmp_path, number, words):
    def write(path: Path) -> None:
        path.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(VideoNotSaved, match=f"not saved in {tmp_path.name}: {words}; no file was left."):
        save_whole(tmp_path, name, 1, write)
    assert names(tmp_path) == []


@pytest.fixture
def no_hard_links(monkeypatch):
    def link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


def test_without_hard_links_the_name_is_taken_first(tmp_path, no_hard_links):
    (tmp_path / "clip_1.mp4").write_text("old")
    assert save_whole(tmp_path, name, 1, content("new")) == tmp_path / "clip_2.mp4"
    assert (tmp_path / "clip_1.mp4").read_text() == "old"
    assert (tmp_path / "clip_2.mp4").read_text() == "new"
    assert names(tmp_path) == ["clip_1.mp4", "clip_2.mp4"]


def test_without_hard_links_a_failed_rename_gives_the_name_back(tmp_path, no_hard_links, monkeypatch):
    def replace(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(VideoNotSaved, match="the disk is full"):
        save_whole(tmp_path, name, 1, content("new"))
    assert names(tmp_path) == []


SAVE_FORTY = """
import sys, types
from pathlib import Path
package = types.ModuleType("wan_relay")
package.__path__ = [sys.argv[1]]
sys.modules["wan_relay"] = package
from wan_relay.nodes.engine.files.whole_file import save_whole, whole_or_none
print("ready", flush=True)
sys.stdin.readline()
for k in range(40):
    save_whole(Path(sys.argv[2]), lambda n: f"clip_{n}.mp4", 1, lambda path: path.write_text(f"{sys.argv[3]} {k}"))
"""


def test_processes_that_save_at_once_never_overwrite_each_other(tmp_path):
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-P", "-c", SAVE_FORTY, str(root), str(tmp_path)]
    savers = []
    try:
        for who in ("a", "b", "c"):
            savers.append(
                subprocess.Popen(
                    [*command, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
                )
            )
        for saver in savers:
            assert saver.stdout.readline() == "ready\n"
        for saver in savers:
            saver.stdin.write("go\n")
            saver.stdin.close()
        assert [saver.wait(timeout=60) for saver in savers] == [0, 0, 0]
    finally:
        for saver in savers:
            saver.kill()
            saver.wait()
            saver.stdout.close()
    assert names(tmp_path) == sorted(name(number) for number in range(1, 121))
    saved = sorted(path.read_text() for path in tmp_path.iterdir())
    assert saved == sorted(f"{who} {k}" for who in "abc" for k in range(40))
