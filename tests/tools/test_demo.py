"""The demo's file."""

from pathlib import Path

import pytest
from wan_relay.tools.demo import write_whole


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "taken.mp4"
    target.mkdir()
    with pytest.raises(OSError):
        write_whole(target, b"data")
    assert list(tmp_path.iterdir()) == [target]
    write_whole(tmp_path / "clip.mp4", b"data")
    assert (tmp_path / "clip.mp4").read_bytes() == b"data"
