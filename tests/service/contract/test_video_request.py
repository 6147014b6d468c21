"""Rows 1-5 and 25-35, 48 of the list of bad inputs: what the declaration answers."""

import gc
import sys

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.seeds import MAX_DRAWN_SEED
from wan_relay.service.contract.video_request import VideoRequest, draw_seed, is_ping, parse_request

GUIDE = {
    "prompt": "woman dancing gracefully",
    "image_base64": "iVBORw0KGgo=",
    "width": 528,
    "height": 768,
    "length": 81,
    "steps": 4,
    "cfg": 1.0,
    "seed": -1,
    "fps": 16,
}

REFUSED = [
    ({"prompt": None}, "MISSING_FIELD: prompt is needed (prompt)"),
    ({"prompt": ""}, "MISSING_FIELD: prompt is needed (prompt)"),
    ({"prompt": " \n\t"}, "MISSING_FIELD: prompt is needed (prompt)"),
    ({"prompt": 7}, "INVALID_TYPE: prompt must be a string, got a number (prompt)"),
    ({"prompt": ["4", 0]}, "INVALID_TYPE: prompt must be a string, got a list (prompt)"),
    ({"negative_prompt": {"a": 1}}, "INVALID_TYPE: negative_prompt must be a string, got an object (negative_prompt)"),
    ({"prompt": "x" * 1_000_000}, "PROMPT_TOO_LONG: prompt must be at most 10000 characters, got 1000000 (prompt)"),
    ({"prompt": "a\x00b"}, "INVALID_VALUE: prompt must not contain control characters or broken Unicode (prompt)"),
    ({"prompt": "a\ud800b"}, "INVALID_VALUE: prompt must not contain control characters or broken Unicode (prompt)"),
    ({"image_base64": None}, "MISSING_FIELD: one of image_base64, image_url, image_path is needed (image)"),
    ({"image_base64": ""}, "MISSING_FIELD: one of image_base64, image_url, image_path is needed (image)"),
    ({"image_base64": [1]}, "INVALID_TYPE: image_base64 must be a string, got a list (image_base64)"),
    (
        {"image_path": "/runpod-volume/a.png"},
        "CONFLICT: give exactly one of image_base64, image_url, image_path; "
        "got image_base64 and image_path (image_base64)",
    ),
    (
        {"end_image_url": "http://a/", "end_image_path": "/a"},
        "CONFLICT: give exactly one of end_image_base64, end_image_url, end_image_path; "
        "got end_image_url and end_image_path (end_image_url)",
    ),
    ({"width": 0}, "OUT_OF_RANGE: width must be from 64 to 2048, got 0 (width)"),
    ({"width": -16}, "OUT_OF_RANGE: width must be from 64 to 2048, got -16 (width)"),
    ({"height": 15}, "OUT_OF_RANGE: height must be from 64 to 2048, got 15 (height)"),
    ({"width": 100000}, "OUT_OF_RANGE: width must be from 64 to 2048, got 100000 (width)"),
    ({"width": 16384}, "OUT_OF_RANGE: width must be from 64 to 2048, got 16384 (width)"),
    ({"width": 528.7}, "INVALID_TYPE: width must be a whole number, got a number (width)"),
    ({"width": "528px"}, "INVALID_TYPE: width must be a whole number, got a string (width)"),
    ({"width": True}, "INVALID_TYPE: width must be a whole number, got true (width)"),
    ({"width": [528]}, "INVALID_TYPE: width must be a whole number, got a list (width)"),
    ({"width": {}}, "INVALID_TYPE: width must be a whole number, got an object (width)"),
    ({"length": 0}, "OUT_OF_RANGE: length must be from 5 to 257, got 0 (length)"),
    ({"length": -1}, "OUT_OF_RANGE: length must be from 5 to 257, got -1 (length)"),
    ({"length": 1}, "OUT_OF_RANGE: length must be from 5 to 257, got 1 (length)"),
    ({"length": 10**9}, "OUT_OF_RANGE: length must be from 5 to 257, got 1000000000 (length)"),
    ({"steps": 0}, "OUT_OF_RANGE: steps must be from 1 to 100, got 0 (steps)"),
    ({"steps": -4}, "OUT_OF_RANGE: steps must be from 1 to 100, got -4 (steps)"),
    ({"steps": 10**6}, "OUT_OF_RANGE: steps must be from 1 to 100, got 1000000 (steps)"),
    ({"cfg": float("nan")}, "INVALID_VALUE: cfg must be a finite number (cfg)"),
    ({"cfg": float("inf")}, "INVALID_VALUE: cfg must be a finite number (cfg)"),
    ({"cfg": -1}, "OUT_OF_RANGE: cfg must be from 0 to 30, got -1 (cfg)"),
    ({"cfg": 1e308}, "OUT_OF_RANGE: cfg must be from 0 to 30, got 1e+308 (cfg)"),
    ({"cfg": 10**400}, "INVALID_VALUE: cfg must be a finite number (cfg)"),
    ({"cfg": "high"}, "INVALID_TYPE: cfg must be a number, got a string (cfg)"),
    ({"cfg": False}, "INVALID_TYPE: cfg must be a number, got false (cfg)"),
    ({"boundary": 900}, "OUT_OF_RANGE: boundary must be from 0 to 1, got 900 (boundary)"),
    ({"seed": -2}, "OUT_OF_RANGE: seed must be from -1 to 18446744073709551615, got -2 (seed)"),
    (
        {"seed": 2**64},
        "OUT_OF_RANGE: seed must be from -1 to 18446744073709551615, got 18446744073709551616 (seed)",
    ),
    ({"seed": 1.5}, "INVALID_TYPE: seed must be a whole number, got a number (seed)"),
    ({"seed": "abc"}, "INVALID_TYPE: seed must be a whole number, got a string (seed)"),
    ({"seed": True}, "INVALID_TYPE: seed must be a whole number, got true (seed)"),
    ({"fps": 0}, "OUT_OF_RANGE: fps must be from 1 to 60, got 0 (fps)"),
    ({"fps": -1}, "OUT_OF_RANGE: fps must be from 1 to 60, got -1 (fps)"),
    ({"fps": 0.5}, "INVALID_TYPE: fps must be a whole number, got a number (fps)"),
    ({"fps": 1000}, "OUT_OF_RANGE: fps must be from 1 to 60, got 1000 (fps)"),
    ({"fps": float("nan")}, "INVALID_VALUE: fps must be a finite number (fps)"),
    ({"resolution": "1080p"}, "INVALID_VALUE: resolution must be one of 480p or 720p (resolution)"),
    (
        {"resolution": "720p", "aspect_ratio": "21:9"},
        "INVALID_VALUE: aspect_ratio must be one of auto, 16:9, 9:16, 4:3, 3:4 or 1:1 (aspect_ratio)",
    ),
    ({"aspect_ratio": "4:3"}, "CONFLICT: aspect_ratio needs resolution beside it (aspect_ratio)"),
    ({"duration": 70}, "OUT_OF_RANGE: duration must be from 0.3 to 16, got 70 (duration)"),
    ({"duration": 5}, "CONFLICT: duration and length exclude each other (duration)"),
    ({"resolution": "480p"}, "CONFLICT: resolution and height exclude each other (resolution)"),
    (
        {"format": "gif"},
        "INVALID_VALUE: format must be one of mp4 h264, mp4 h265, mp4 av1, webm vp9 or webm av1 (format)",
    ),
    ({"sampler": "e" * 65}, "INVALID_VALUE: sampler must be at most 64 characters (sampler)"),
    ({"end_image_path": "/" * 4097}, "INVALID_VALUE: end_image_path must be at most 4096 characters (end_image_path)"),
    ({"fit": " " * 64 + "crop"}, "INVALID_VALUE: fit must be one of crop, pad or stretch (fit)"),
    ({"width": " " * 40 + "528"}, "INVALID_TYPE: width must be a whole number, got a string (width)"),
    ({"shrink": "yes"}, "INVALID_TYPE: shrink must be true or false, got a string (shrink)"),
    ({"strict": True, "lenght": 81}, "UNKNOWN_FIELD: field lenght is not known; did you mean length? (lenght)"),
    ({"workflow": "wan22_t2v_4step"}, "CONFLICT: workflow wan22_t2v_4step takes no image (workflow)"),
    (
        {"workflow": "wan22_ti2v_5b", "end_image_url": "http://a/"},
        "CONFLICT: end_image_url needs a workflow that takes an end image, and wan22_ti2v_5b takes none "
        "(end_image_url)",
    ),
    (
        {"workflow": "wan22_flf2v_4step"},
        "MISSING_FIELD: one of end_image_base64, end_image_url, end_image_path is needed (end_image)",
    ),
    (
        {"loop": True, "end_image_url": "http://a/"},
        "CONFLICT: loop and end_image_url exclude each other: a loop ends with its start image (loop)",
    ),
    (
        {"loop": True, "image_base64": None},
        "MISSING_FIELD: one of image_base64, image_url, image_path is needed (image)",
    ),
    (
        {"loop": True, "image_base64": None, "workflow": "wan22_t2v_4step"},
        "CONFLICT: loop needs a workflow that takes an end image, and wan22_t2v_4step takes none (loop)",
    ),
    (
        {"loop": True, "workflow": "wan22_ti2v_5b"},
        "CONFLICT: loop needs a workflow that takes an end image, and wan22_ti2v_5b takes none (loop)",
    ),
    ({"interpolation": "dain"}, "INVALID_VALUE: interpolation must be one of none, film or rife (interpolation)"),
    (
        {"interpolation": "film", "interpolation_factor": 9},
        "OUT_OF_RANGE: interpolation_factor must be from 1 to 8, got 9 (interpolation_factor)",
    ),
    (
        {"interpolation_factor": 2},
        "CONFLICT: interpolation_factor needs interpolation beside it (interpolation_factor)",
    ),
    ({"slow_motion": True}, "CONFLICT: slow_motion needs interpolation beside it (slow_motion)"),
    (
        {"frame_order": "sideways"},
        "INVALID_VALUE: frame_order must be one of forward, reverse or ping-pong (frame_order)",
    ),
    (
        {"encoder_preset": "slow"},
        "INVALID_VALUE: encoder_preset must be one of fast, balanced or small (encoder_preset)",
    ),
    (
        {"boundary": 0.9, "switch_step": 1},
        "CONFLICT: boundary and switch_step exclude each other unless switch says which one counts (switch)",
    ),
]


def refusal(raw: dict) -> str:
    with pytest.raises(JobError) as caught:
        parse_request(raw)
    return str(caught.value)


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_bad_field_is_refused_in_one_sentence(change, sentence):
    raw = GUIDE | change
    if change.get("resolution") in ("1080p", "720p"):
        raw = {name: value for name, value in raw.items() if name not in ("width", "height")}
    assert refusal(raw) == sentence


@pytest.mark.parametrize(
    ("raw", "what"), [(None, "null"), ("hello", "a string"), ([{}], "a list"), (3, "a number"), (True, "true")]
)
def test_input_that_is_no_object(raw, what):
    with pytest.raises(JobError) as caught:
        is_ping(raw)
    assert str(caught.value) == f"INVALID_INPUT: input must be an object, got {what} (input)"


def test_guide_request_is_taken_as_it_is():
    request, warnings = parse_request(dict(GUIDE))
    assert warnings == []
    assert request.model_dump(include=set(GUIDE)) == GUIDE


def test_blanks_around_a_name_or_a_path_are_taken_off():
    fields = {
        "sampler": " euler\n",
        "scheduler": "simple ",
        "fit": "\tPad ",
        "end_image_path": "/runpod-volume/a b.png\n",
    }
    request, _ = parse_request(GUIDE | fields)
    sent = {name: getattr(request, name) for name in fields}
    expected = {"sampler": "euler", "scheduler": "simple", "fit": "pad", "end_image_path": "/runpod-volume/a b.png"}
    assert sent == expected


def test_numbers_may_come_as_text_or_whole_floats_and_null_is_the_default():
    request, warnings = parse_request(
        GUIDE | {"width": "528", "height": 768.0, "cfg": "1.5", "fps": None, "seed": None, "SIZING": 1, "fit": "Crop"}
    )
    assert (request.width, request.height, request.cfg, request.fps, request.seed, request.fit) == (
        528,
        768,
        1.5,
        16,
        -1,
        "crop",
    )
    assert "fps" not in request.model_fields_set
    assert warnings == ["field SIZING is not known and was ignored; did you mean sizing?"]


def test_unknown_fields_are_listed_and_bounded():
    raw = GUIDE | {"lenght": 5, "masks": [], "x" * 500: 1} | {f"zz{i}": i for i in range(200_000)}
    _, warnings = parse_request(raw)
    assert warnings[:2] == [
        "field lenght is not known and was ignored; did you mean length?",
        "field masks is not known and was ignored",
    ]
    assert warnings[10] == "199993 more unknown fields were ignored"
    assert len(warnings) == 11
    assert max(map(len, warnings)) < 100


def test_deeply_nested_value_is_refused_quickly():
    assert refusal(GUIDE | {"cfg": nested(100_000)}) == "INVALID_TYPE: cfg must be a number, got a list (cfg)"


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def calls(raw: dict) -> int:
    """Python and C functions called, and generators resumed, while a request is read."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # pydantic's caches are swept by callbacks that would be counted
    sys.setprofile(note)
    try:
        is_ping(raw)
        parse_request(raw)
    except JobError:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


HOSTILE_VALUES = {
    "text": lambda size: "A" * size,
    "blanks": lambda size: " " * size,
    "digits": lambda size: "1" * size,
    "not ASCII": lambda size: "é" * size,
    "path": lambda size: "/a" * (size // 2),
    "list": lambda size: [0] * size,
    "object": lambda size: dict.fromkeys(map(str, range(size)), 0),
    "nested": nested,
}


@pytest.mark.parametrize("kind", HOSTILE_VALUES)
def test_work_does_not_grow_with_a_value(kind):
    """Requests are read on the event loop. What is left to C, as a search through a text, costs 10 ns a character."""
    for field in VideoRequest.model_fields:
        calls(GUIDE | {field: HOSTILE_VALUES[kind](10)})
        few = calls(GUIDE | {field: HOSTILE_VALUES[kind](10)})
        assert calls(GUIDE | {field: HOSTILE_VALUES[kind](50_000)}) < few + 200, field


@pytest.mark.parametrize("strict", [False, True])
def test_work_does_not_grow_with_unknown_fields(strict):
    few = calls(GUIDE | {"strict": strict} | {f"zz{i}" * 30: i for i in range(10)})
    for hostile in (
        {f"zz{i}" * 30: i for i in range(100_000)},
        {f"zz{i}" + "k" * 50_000: i for i in range(10)},
        {f"zz{i}" + "/a" * 50_000: i for i in range(10)},
        {"k" * 10_000_000: 1},
        {"é" * 10_000_000: 1},
    ):
        assert calls(GUIDE | {"strict": strict} | hostile) < few + 20_000


@pytest.mark.parametrize("key", ["a\ud800b", "a\nb", "a\x1bb"])
def test_an_unknown_field_of_any_name_can_be_answered(key):
    assert refusal(GUIDE | {"strict": True, key: 1}) == "UNKNOWN_FIELD: field a b is not known (a b)"
    _, warnings = parse_request(GUIDE | {key: 1})
    assert warnings == ["field a b is not known and was ignored"]


def test_images_per_workflow():
    for change in (
        {"image_base64": None, "end_image_base64": "aa"},
        {"image_base64": None, "workflow": "wan22_t2v_4step"},
        {"image_base64": None, "workflow": "WAN22_TI2V_5B"},
        {"end_image_url": "http://a/", "workflow": "wan22_flf2v_4step"},
        {"loop": True},
        {"loop": True, "workflow": "wan22_flf2v_4step"},
        {"loop": False, "slow_motion": False, "end_image_url": "http://a/"},
    ):
        parse_request(GUIDE | change)


def test_seed():
    fixed, _ = parse_request(GUIDE | {"seed": 2**64 - 1})
    assert draw_seed(fixed) == 2**64 - 1
    drawn, _ = parse_request(dict(GUIDE))
    seeds = {draw_seed(drawn) for _ in range(50)}
    assert len(seeds) == 50
    assert max(seeds) <= MAX_DRAWN_SEED == 2**53 - 1


def test_ping():
    assert is_ping({"action": "ping"}) is True
    assert is_ping({"action": None}) is False
    with pytest.raises(JobError, match="INVALID_VALUE: action must be ping"):
        is_ping({"action": "reboot"})


def test_every_field_is_described():
    assert [name for name, info in VideoRequest.model_fields.items() if not info.description] == []
