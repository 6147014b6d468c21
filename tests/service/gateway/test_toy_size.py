"""Every request at the toy family's size: the same aspect, and it is said."""

from typing import Any

import pytest
from wan_relay.service.contract.video_request import VideoRequest
from wan_relay.service.gateway.draft import Draft
from wan_relay.service.gateway.toy_size import MAX_FRAMES, MAX_PIXELS, asked_length, asked_size, at_toy_size


def toy(**fields: Any) -> Draft:
    return at_toy_size(Draft(VideoRequest.model_validate({"prompt": "x", "image_base64": "AAAA", **fields})))


@pytest.mark.parametrize(
    ("fields", "size", "length"),
    [
        ({}, (160, 224), 33),
        ({"resolution": "720p"}, (256, 144), 33),
        ({"resolution": "720p", "aspect_ratio": "9:16"}, (144, 256), 33),
        ({"resolution": "480p", "aspect_ratio": "1:1"}, (192, 192), 33),
        ({"width": 2048, "height": 64}, (1104, 64), 33),
        ({"width": 240, "height": 160, "length": 33}, (240, 160), 33),
        ({"width": 160, "height": 96, "length": 17}, (160, 96), 17),
        ({"duration": 1}, (160, 224), 17),
        ({"workflow": "wan22_ti2v_5b", "resolution": "720p"}, (256, 128), 33),
    ],
)
def test_a_request_at_toy_size(fields: dict[str, Any], size: tuple[int, int], length: int) -> None:
    draft = toy(**fields)
    assert (asked_size(draft.request), asked_length(draft.request)) == (size, length)
    assert size[0] * size[1] <= MAX_PIXELS or 64 in size
    assert length <= MAX_FRAMES


def test_what_was_changed_is_said() -> None:
    assert toy(resolution="480p", aspect_ratio="16:9").warnings == (
        "this gateway renders at toy size: 256x144 and 33 frames in place of 832x480 and 81",
    )
    assert toy(width=160, height=96, length=17).warnings == ()


def test_auto_keeps_the_pictures_aspect() -> None:
    assert toy(resolution="480p", aspect_ratio="auto").request.sizing == "match image"
    assert toy(resolution="480p", aspect_ratio="16:9").request.sizing == "fixed"


def test_everything_else_stays() -> None:
    draft = toy(seed=3, steps=7, shift=3.0, resolution="480p", end_image_url="https://example.com/a.png")
    assert (draft.request.seed, draft.request.steps, draft.request.shift) == (3, 7, 3.0)
    assert draft.request.end_image == ("end_image_url", "https://example.com/a.png")


def test_it_can_be_shorter_still() -> None:
    draft = Draft(VideoRequest.model_validate({"prompt": "x", "image_base64": "AAAA", "width": 64, "height": 64}))
    shorter = at_toy_size(draft, max_frames=9)
    assert (shorter.request.width, shorter.request.height, shorter.request.length) == (64, 64, 9)
    assert shorter.warnings == ("this gateway renders at toy size: 64x64 and 9 frames in place of 64x64 and 81",)
