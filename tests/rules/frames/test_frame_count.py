import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.frame_count import latent_frames, plan_length, snap_length, whole_frames


@pytest.mark.parametrize(
    ("length", "snapped"),
    [
        (1, 1),
        (2, 1),
        (3, 5),
        (4, 5),
        (5, 5),
        (6, 5),
        (7, 9),
        (16, 17),
        (49, 49),
        (79, 81),
        (80, 81),
        (81, 81),
        (82, 81),
        (83, 85),
        (120, 121),
        (1023, 1025),
        (1024, 1025),
        (1025, 1025),
    ],
)
def test_snaps_to_the_nearest_4n_plus_1_ties_up(length: int, snapped: int) -> None:
    assert snap_length(length) == snapped


def test_every_snapped_length_is_nearest_and_reachable() -> None:
    allowed = range(1, 1030, 4)
    for length in range(1, 1026):
        nearest = min(allowed, key=lambda n, length=length: (abs(n - length), -n))
        assert snap_length(length) == nearest


@pytest.mark.parametrize("length", [0, -3])
def test_no_frames_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match=f"length must be at least 1 frame, got {length}"):
        snap_length(length)


def test_latent_frames() -> None:
    assert [latent_frames(n) for n in (1, 5, 49, 81, 121)] == [1, 2, 13, 21, 31]


def test_whole_frames_is_what_the_vae_keeps() -> None:
    assert [whole_frames(n) for n in (1, 2, 4, 5, 8, 9, 80)] == [1, 1, 1, 5, 5, 9, 77]


def test_plan_says_what_it_changed() -> None:
    assert plan_length(81) == {"length": 81, "latent_frames": 21, "duration_s": 81 / 16, "warnings": []}
    assert plan_length(80)["warnings"] == ["length 80 is not of the form 4n+1; 81 frames are made."]
