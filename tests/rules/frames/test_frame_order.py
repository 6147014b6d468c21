import itertools

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.frame_order import frames_in_order


@pytest.mark.parametrize(
    ("num_frames", "frame_order", "drop_last_frame", "expected"),
    [
        (4, "forward", False, [0, 1, 2, 3]),
        (4, "forward", True, [0, 1, 2]),
        (4, "reverse", False, [3, 2, 1, 0]),
        (4, "reverse", True, [2, 1, 0]),
        (4, "ping-pong", False, [0, 1, 2, 3, 2, 1]),
        (4, "ping-pong", True, [0, 1, 2, 1]),
        (3, "ping-pong", False, [0, 1, 2, 1]),
        (2, "ping-pong", False, [0, 1]),
        (1, "ping-pong", False, [0]),
        (1, "reverse", False, [0]),
        (2, "ping-pong", True, [0]),
    ],
)
def test_the_order(num_frames, frame_order, drop_last_frame, expected):
    assert frames_in_order(num_frames, frame_order, drop_last_frame) == expected


def test_a_repeated_ping_pong_shows_no_frame_twice_in_a_row():
    twice = frames_in_order(81, "ping-pong") * 2
    assert all(abs(after - before) == 1 for before, after in itertools.pairwise(twice))
    assert len(twice) == 2 * 160


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidInput, match=r"frame_order must be one of forward, reverse, ping-pong; got 'sideways'\."):
        frames_in_order(4, "sideways")
    with pytest.raises(InvalidInput, match=r"drop_last_frame needs at least 2 images; got 1\."):
        frames_in_order(1, "forward", True)
