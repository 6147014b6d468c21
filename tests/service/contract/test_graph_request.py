"""What comes beside a client's own workflow."""

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.graph_request import GraphFields, NamedImage, brings_graph, from_text
from wan_relay.service.contract.video_request import parse_fields


def test_nothing_is_needed():
    fields, warnings = parse_fields({}, GraphFields)
    assert (fields.to_wire(), warnings) == ({}, [])


def test_what_the_stock_worker_takes_and_ours_beside_it():
    images = [{"name": "a.png", "image": "data:image/png;base64,AA=="}, {"name": "sub/b.png", "image": " https://x/y"}]
    raw = {"images": images, "seed": "7", "prompt": None, "comfy_org_api_key": "k"}
    fields, warnings = parse_fields(raw, GraphFields)
    assert fields.images == tuple(NamedImage(**image) for image in images)
    assert [image.form for image in fields.images] == ["base64", "url"]
    assert fields.model_fields_set == {"images", "seed"}
    assert warnings == ["field comfy_org_api_key is not known and was ignored"]


WANTED = "must be objects with two strings, name and image, and images[0] is not (images)"


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("a.png", "INVALID_TYPE: images must be a list of objects {name, image}, got a string (images)"),
        (["a.png"], f"INVALID_VALUE: images {WANTED}"),
        ([{"name": "a.png"}], f"INVALID_VALUE: images {WANTED}"),
        ([{"name": "a.png", "image": 1}], f"INVALID_VALUE: images {WANTED}"),
        (
            [{"name": "../a.png", "image": ""}],
            "INVALID_VALUE: images must have plain file names, such as photo.png, and images[0] has not (images)",
        ),
        (
            [{"name": "/a.png", "image": ""}],
            "INVALID_VALUE: images must have plain file names, such as photo.png, and images[0] has not (images)",
        ),
        (
            [{"name": "a.png", "image": "x"}] * 2,
            "INVALID_VALUE: images must have different names, and images[1] has that of an earlier one (images)",
        ),
        ([{"name": "a", "image": "x"}] * 33, "INVALID_VALUE: images must have at most 32 items, got 33 (images)"),
    ],
)
def test_images_that_are_refused(images, sentence):
    with pytest.raises(JobError) as caught:
        parse_fields({"images": images}, GraphFields)
    assert str(caught.value) == sentence


def test_fields_are_judged_as_ever():
    for raw, code in (
        ({"width": 1}, "OUT_OF_RANGE"),
        ({"image_url": "http://a", "image_base64": "AA=="}, "CONFLICT"),
        ({"nosuch": 1, "strict": True}, "UNKNOWN_FIELD"),
    ):
        with pytest.raises(JobError) as caught:
            parse_fields(raw, GraphFields)
        assert caught.value.code == code


def test_json_as_text():
    assert from_text(' {"a": 1}') == {"a": 1}
    for other in ("name", "{broken", "[1]", "{" * 100_000, None, 3, {"a": 1}):
        assert from_text(other) == other
    assert brings_graph({"workflow": '{"1": {}}'})
    assert brings_graph({"workflow": {}})
    assert not any(map(brings_graph, ({"workflow": "name"}, {}, None, "{}", [])))
