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
    ("name", "preset", "bit_depth", "channels"),
    [
        *((name, "balanced", 8, 3) for name in FORMATS),
        *((name, preset, 8, 3) for name in FORMATS if name != "webm av1" for preset in ("fast", "small")),
        ("webm vp9", "balanced", 8, 4),
        ("webm vp9", "fast", 8, 4),
        ("mp4 h265", "balanced", 10, 3),
        ("mp4 av1", "balanced", 10, 3),
    ],
)
def test_every_small_size_is_saved_whole(tmp_path, name, preset, bit_depth, channels):
    sides = SIDES if preset == "balanced" else SIDES[::3] + SIDES[-1:]
    arguments = [ROOT, tmp_path, name, preset, bit_depth, channels, *sides]
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        start_new_session=True,
        check=False,
    )
    expected = [f"{width}x{height} gave 30 {height} {width}" for width, height in itertools.product(sides, repeat=2)]
    assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr[-2000:]
