"""Encoders crash or hang on small pictures, so each format is tried in a process of its own."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from wan_relay.nodes.engine.video.video_format import FORMATS

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).with_name("save_small_videos.py")
SIDES = (16, 24, 32, 48, 64, 80)


@pytest.mark.parametrize(
    ("name", "bit_depth", "channels"),
    [*((name, 8, 3) for name in FORMATS), ("webm vp9", 8, 4), ("mp4 h265", 10, 3), ("mp4 av1", 10, 3)],
)
def test_every_small_size_is_saved_whole(tmp_path, name, bit_depth, channels):
    arguments = [ROOT, tmp_path, name, bit_depth, channels, *SIDES]
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        start_new_session=True,
        check=False,
    )
    expected = [f"{width}x{height} gave 30 {height} {width}" for width, height in itertools.product(SIDES, repeat=2)]
    assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr[-2000:]
