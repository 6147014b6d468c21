import json
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.frame_size import (
    Placement,
    best_output_size,
    describe_placement,
    fixed_size,
    match_image_size,
    nearest_multiple,
    place_image,
    plan_size,
)

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "reference_sizes.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["a14b"], ids=str)
def test_match_image_is_the_a14b_reference(case: list[int]) -> None:
    image_width, image_height, max_area, width, height = case
    assert match_image_size(image_width, image_height, max_area) == (width, height)


@pytest.mark.parametrize("case", REFERENCE["ti2v_5b"], ids=str)
def test_5b_size_and_crop_are_the_reference(case: list[int]) -> None:
    image_width, image_height, max_area, width, height, *placement = case
    assert best_output_size(image_width, image_height, max_area) == (width, height)
    assert place_image(image_width, image_height, width, height, "crop") == Placement(*placement)


@pytest.mark.parametrize("size", [(832, 480), (480, 832), (1280, 720), (720, 1280), (528, 768), (640, 640)])
def test_a_native_size_stays(size: tuple[int, int]) -> None:
    assert match_image_size(*size, size[0] * size[1]) == size


@pytest.mark.parametrize("size", [(1280, 704), (704, 1280), (832, 480), (480, 832)])
def test_a_native_size_of_5b_stays(size: tuple[int, int]) -> None:
    assert fixed_size(*size, 32) == best_output_size(*size, size[0] * size[1]) == size


def test_match_image_never_exceeds_the_budget() -> None:
    for image_width in range(1, 4000, 97):
        for image_height in range(1, 4000, 89):
            for rule in (match_image_size, best_output_size):
                width, height = rule(image_width, image_height, 832 * 480)
                assert width * height <= 832 * 480


@pytest.mark.parametrize(
    ("side", "multiple", "snapped"),
    [
        (528, 16, 528),
        (519, 16, 512),
        (520, 16, 528),
        (521, 16, 528),
        (528, 32, 544),
        (527, 32, 512),
        (1, 16, 16),
        (7, 16, 16),
        (16, 32, 32),
        (8192, 16, 8192),
    ],
)
def test_nearest_multiple_ties_up(side: int, multiple: int, snapped: int) -> None:
    assert nearest_multiple(side, multiple) == snapped


def test_fixed_size() -> None:
    assert fixed_size(528, 768) == (528, 768)
    assert fixed_size(500, 777) == (496, 784)
    assert fixed_size(528, 768, 32) == (544, 768)


def test_plan_fixed_says_each_change() -> None:
    assert plan_size(528, 768) == {"width": 528, "height": 768, "warnings": []}
    assert plan_size(530, 768, image_size=(4000, 3000)) == {
        "width": 528,
        "height": 768,
        "warnings": ["width 530 is not a multiple of 16; 528 is used."],
    }
    assert plan_size(528, 700, multiple=32)["warnings"] == [
        "width 528 is not a multiple of 32; 544 is used.",
        "height 700 is not a multiple of 32; 704 is used.",
    ]


def test_plan_match_image_uses_the_unsnapped_budget() -> None:
    assert plan_size(832, 480, "match image", (1080, 1920)) == {"width": 464, "height": 832, "warnings": []}
    assert plan_size(480, 832, "match image", (1080, 1920), 32) == {"width": 480, "height": 832, "warnings": []}
    width, height = match_image_size(1000, 1000, 999 * 401)
    assert plan_size(999, 401, "match image", (1000, 1000)) == {"width": width, "height": height, "warnings": []}


@pytest.mark.parametrize("image_size", [(20000, 4), (4, 20000), (100000, 1)])
@pytest.mark.parametrize("multiple", [16, 32])
def test_an_image_too_narrow_for_the_budget_is_refused(image_size: tuple[int, int], multiple: int) -> None:
    with pytest.raises(InvalidInput, match=r"leaves a side shorter than (16|32) pixels within 832x480"):
        plan_size(832, 480, "match image", image_size, multiple)


def test_without_an_image_every_size_is_fixed() -> None:
    assert plan_size(832, 481, "match image") == plan_size(832, 481, "fixed")
    assert plan_size(832, 481, "match image")["warnings"] == ["height 481 is not a multiple of 16; 480 is used."]


def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(InvalidInput, match="got 'auto'"):
        plan_size(832, 480, "auto")
    with pytest.raises(InvalidInput, match="got 0x480"):
        plan_size(0, 480)
    with pytest.raises(InvalidInput, match="must have pixels, got 0x5"):
        plan_size(832, 480, "match image", (0, 5))
    with pytest.raises(InvalidInput, match="got 'fill'"):
        place_image(10, 10, 16, 16, "fill")
    with pytest.raises(InvalidInput, match="crop_position must be one of center, top, bottom, left, right, got 'up'"):
        place_image(10, 10, 16, 16, "crop", "up")


@pytest.mark.parametrize(
    ("image", "frame", "fit", "place"),
    [
        ((4000, 3000), (832, 480), "crop", Placement(832, 624, 0, 72)),
        ((4000, 3000), (832, 480), "pad", Placement(640, 480, -96, 0)),
        ((4000, 3000), (832, 480), "stretch", Placement(832, 480, 0, 0)),
        ((832, 480), (832, 480), "crop", Placement(832, 480, 0, 0)),
        ((1, 9), (528, 768), "pad", Placement(85, 768, -222, 0)),
        ((1, 4000), (528, 768), "pad", Placement(1, 768, -264, 0)),
    ],
)
def test_place_image(image: tuple[int, int], frame: tuple[int, int], fit: str, place: Placement) -> None:
    assert place_image(*image, *frame, fit) == place


@pytest.mark.parametrize(
    ("image", "places"),
    [
        ((400, 300), {"center": (0, 10), "top": (0, 0), "bottom": (0, 20), "left": (0, 10), "right": (0, 10)}),
        ((300, 150), {"center": (10, 0), "top": (10, 0), "bottom": (10, 0), "left": (0, 0), "right": (20, 0)}),
    ],
)
def test_the_part_that_stays_lies_where_it_is_asked_for(image, places) -> None:
    width, height = (80, 40) if image == (400, 300) else (20, 20)
    for position, corner in places.items():
        place = place_image(*image, width, height, "crop", position)
        assert (place.left, place.top) == corner
        assert place_image(*image, width, height, "pad", position) == place_image(*image, width, height, "pad")


def test_the_part_that_stays_in_percent_of_the_image() -> None:
    place = place_image(400, 300, 80, 40, "crop", "bottom")
    assert place.crop_percent(80, 40) == pytest.approx((0, 100 / 3, 100, 200 / 3))
    assert place_image(400, 300, 80, 60, "crop").crop_percent(80, 60) is None
    assert place_image(400, 300, 80, 40, "pad").crop_percent(80, 40) is None


def test_descriptions_name_what_is_lost() -> None:
    assert describe_placement("start_image", (1664, 960), 832, 480, "crop") == []
    assert describe_placement("start_image", (4000, 3000), 832, 480, "crop") == [
        "start_image of 4000x3000 loses 23.1% of its height to fill 832x480."
    ]
    assert describe_placement("end_image", (4000, 3000), 832, 480, "pad") == [
        "end_image of 4000x3000 gets black bars over 23.1% of the width of 832x480."
    ]
    assert describe_placement("end_image", (4000, 3000), 832, 480, "stretch") == [
        "end_image of 4000x3000 is stretched to 832x480, 30.0% wider."
    ]
