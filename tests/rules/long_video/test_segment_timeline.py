"""The timeline of a long video: each segment's known frames at their places in the whole."""

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.timeline import Given
from wan_relay.nodes.rules.long_video.segment_plan import plan_long_video
from wan_relay.nodes.rules.long_video.segment_timeline import given_of, plan_segments


def drawn(given: Given, length: int, lengths: tuple[int, ...] = (), overlap: int = 1, is_5b: bool = False) -> list[str]:
    plan = plan_long_video(length, 81, overlap, 0, lengths=lengths)
    return [
        f"{span['segment']} {span['kind']} {span['first']}-{span['last']}"
        for span in plan_segments(plan, given, is_5b)[1]
    ]


def test_one_segment_is_the_clip_itself() -> None:
    given = Given(start_image=1, loop=True, keyframes=())
    assert drawn(given, 81) == ["1 known 0-0", "1 unknown 1-79", "1 known 80-80"]


def test_what_the_video_ends_with_is_the_last_segments() -> None:
    expected = ["1 known 0-0", "1 unknown 1-79", "2 overlap 80-80", "2 unknown 81-158", "2 known 159-160"]
    assert drawn(Given(start_image=1, end_image=2), 161) == expected


def test_a_clip_before_goes_on_with_its_own_overlap() -> None:
    assert drawn(Given(previous=99, overlap=9), 0, (13, 9, 5)) == [
        "1 overlap 0-8",
        "1 unknown 9-11",
        "2 overlap 12-12",
        "2 unknown 13-19",
        "3 overlap 20-20",
        "3 unknown 21-24",
    ]


def test_an_anchor_opens_every_segment() -> None:
    expected = ["1 anchor 0-0", "1 unknown 1-11", "2 anchor 12-12", "2 overlap 13-16", "2 unknown 17-28"]
    assert drawn(Given(anchor=1, padding="zero"), 0, (17, 17), 5) == expected
    assert drawn(Given(start_image=1, padding="reference"), 0, (17, 17), 5) == [
        "1 known 0-0",
        "1 unknown 1-11",
        "2 overlap 12-16",
        "2 unknown 17-28",
    ]


def test_what_a_segment_cannot_take_is_refused() -> None:
    with pytest.raises(InvalidInput, match="end_image must stay empty with"):
        drawn(Given(start_image=1, end_image=1), 161, is_5b=True)
    assert drawn(Given(start_image=1), 161, is_5b=True)[:2] == ["1 known 0-0", "1 unknown 1-79"]
    for given in (Given(previous=9, loop=True), Given(start_image=1, end_image=1, loop=True)):
        with pytest.raises(InvalidInput, match="loop needs a start_image and no end_image"):
            drawn(given, 161)


def test_a_loop_of_several_segments_ends_with_one_frame() -> None:
    expected = ["1 known 0-0", "1 unknown 1-79", "2 overlap 80-80", "2 unknown 81-159", "2 known 160-160"]
    assert drawn(Given(start_image=1, loop=True), 161) == expected
    assert drawn(Given(start_image=5, loop=True), 161)[-1:] == expected[-1:]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            Given(end_image=1),
            "Prepare Latent must have a start image for a long video of several segments: its end image is the last "
            "segment's, and the first one would be made of nothing.",
        ),
        (
            Given(anchor=1),
            "overlap of Long Video must be at least 5 with an anchor, behind which the clip before goes on in latents "
            "of 4 frames; got 1.",
        ),
    ],
)
def test_what_the_next_segment_could_not_take_is_refused_before_the_first(given: Given, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        drawn(given, 161)
    assert str(refused.value) == sentence
    assert drawn(given, 81)[-1].startswith("1 "), "one segment takes it"
    assert drawn(Given(anchor=1), 161, overlap=5)[0] == "1 anchor 0-0"


def test_what_prepare_latent_is_given_is_read_from_the_graph() -> None:
    link = ["1", 0]
    assert given_of({"width": 528, "start_image": link, "loop": True}) == Given(start_image=1, loop=True)
    assert given_of(
        {"previous": link, "anchor": link, "end_image": link, "overlap": 9, "padding": "zero", "keyframes": link}
    ) == Given(previous=65536, anchor=1, end_image=1, overlap=9, padding="zero")
    for name in ("overlap", "padding", "loop"):
        assert given_of({"start_image": link, name: link}) is None
