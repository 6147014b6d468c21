"""Segments as a client writes them, and what is wrong with them."""

from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.segment_request import SegmentRequest
from wan_relay.service.contract.video_request import VideoRequest, parse_request

IMAGE = {"image_url": "https://example.com/photo.jpg"}


def parsed(**fields: Any) -> VideoRequest:
    return parse_request(IMAGE | fields)[0]


def test_a_segment_is_a_prompt_and_what_it_says_besides() -> None:
    request = parsed(
        segments=[{"prompt": " she\nturns "}, {"prompt": "b", "length": "49", "seed": 7}, {"prompt": "c", "seed": -1}]
    )
    assert request.segments == (
        SegmentRequest(prompt="she turns", length=81),
        SegmentRequest(prompt="b", length=49, seed=7),
        SegmentRequest(prompt="c"),
    )
    assert request.prompt == " she\nturns "
    assert parsed(prompt="own", segments=[{"prompt": "a"}]).prompt == "own"
    assert parsed(prompt="a", segment_length=81, length=161).segment_length == 81
    assert request.to_wire()["segments"][1] == {"prompt": "b", "length": 49, "seed": 7}


def test_the_job_has_the_first_prompt_without_its_loras() -> None:
    segments = [{"prompt": "she <LoRA:pan:0.8>  turns"}, {"prompt": "<lora:pan:0>"}]
    request = parsed(segments=segments)
    assert (request.prompt, request.segments[0].prompt) == ("she turns", "she <LoRA:pan:0.8> turns")
    assert parsed(segments=segments[::-1], prompt="own").prompt == "own"


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        ({"segments": "a"}, "INVALID_TYPE", "segments must be a list of objects, got a string"),
        ({"segments": []}, "INVALID_VALUE", "segments must have 1 to 20 items, got 0"),
        ({"segments": [{"prompt": "a"}] * 21}, "INVALID_VALUE", "segments must have 1 to 20 items, got 21"),
        ({"segments": ["a"]}, "INVALID_VALUE", "segments item 1 must be an object"),
        ({"segments": [{"prompt": "a"}, {"length": 81}]}, "INVALID_VALUE", "segments item 2 needs a prompt"),
        ({"segments": [{"prompt": " "}]}, "INVALID_VALUE", "segments item 1 needs a prompt"),
        (
            {"segments": [{"prompt": "a", "lenght": 81}]},
            "INVALID_VALUE",
            "segments item 1 has a field that is not known; the known ones are prompt, length, seed",
        ),
        (
            {"segments": [{"prompt": "a", "length": 300}]},
            "INVALID_VALUE",
            "segments item 1: length must be from 5 to 257",
        ),
        ({"segments": [{"prompt": "a", "seed": "x"}]}, "INVALID_VALUE", "segments item 1: seed must be a whole number"),
        ({"segments": [{"prompt": "<lora:pan:1>"}, {"prompt": "a"}]}, "MISSING_FIELD", "prompt is needed"),
        ({"segments": [{"prompt": 3}]}, "INVALID_VALUE", "segments item 1: prompt must be a string"),
        (
            {"segments": [{"prompt": "a" * 10_001}]},
            "INVALID_VALUE",
            "segments item 1: prompt must be at most 10000 characters, got 10001",
        ),
        (
            {"segments": [{"prompt": "a\x00"}]},
            "INVALID_VALUE",
            "segments item 1: prompt must not contain control characters or broken Unicode",
        ),
        (
            {"segments": [{"prompt": "a"}], "length": 161},
            "CONFLICT",
            "segments and length exclude each other",
        ),
        (
            {"segments": [{"prompt": "a"}], "segment_length": 81},
            "CONFLICT",
            "segments and segment_length exclude each other",
        ),
        ({"prompt": "a", "segment_length": 4}, "OUT_OF_RANGE", "segment_length must be from 5 to 257, got 4"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], code: str, sentence: str) -> None:
    with pytest.raises(JobError) as refused:
        parsed(**fields)
    assert (refused.value.code, refused.value.sentence) == (code, sentence)


def test_a_text_to_video_pair_cannot_go_on_from_a_frame() -> None:
    with pytest.raises(JobError) as refused:
        parse_request({"prompt": "a", "workflow": "wan22_t2v_4step", "segment_length": 81})
    assert refused.value.sentence == (
        "segment_length needs a workflow that takes a start image, and wan22_t2v_4step takes none"
    )


END_ALONE = {"prompt": "a", "end_image_url": "https://example.com/b.png"}


@pytest.mark.parametrize(
    "fields",
    [
        {"segments": [{"prompt": "a"}, {"prompt": "b"}]},
        {"length": 161, "segment_length": 81},
        {"duration": 10, "segment_length": 81},
        {"segment_length": 41},
        {"workflow": "wan22_i2v_long"},
        {"workflow": "wan22_i2v_long", "length": 81, "segment_length": 41},
    ],
)
def test_the_first_of_several_segments_needs_a_start_image(fields: dict[str, Any]) -> None:
    with pytest.raises(JobError) as refused:
        parse_request(END_ALONE | fields)
    assert str(refused.value) == (
        "MISSING_FIELD: one of image_base64, image_url, image_path is needed, because end_image_url is the last "
        "segment's alone (image)"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"segments": [{"prompt": "a"}]},
        {"length": 81, "segment_length": 81},
        {"duration": 5, "segment_length": 81},
        {"workflow": "wan22_i2v_long", "length": 81},
        {"workflow": "wan22_i2v_long", "segment_length": 161},
        {"workflow": "wan22_ti2v_5b", "end_image_url": None, "segments": [{"prompt": "a"}, {"prompt": "b"}]},
    ],
)
def test_one_segment_may_have_an_end_image_alone_and_5b_words(fields: dict[str, Any]) -> None:
    parse_request(END_ALONE | fields)
