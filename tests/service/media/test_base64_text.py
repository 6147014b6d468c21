"""Base64 as clients send it."""

import base64

import pytest
from wan_relay.service.media.base64_text import decode_base64
from wan_relay.service.media.decoding.picture import decode
from wan_relay.tests.service.media.pictures import MB, refusal


def test_base64_in_every_honest_spelling():
    content = bytes(range(256)) + b"\xfb\xff\xfe"
    text = base64.b64encode(content).decode()
    lines = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for spelling in (
        text,
        text.rstrip("="),
        lines,
        f"  {text}\n",
        base64.urlsafe_b64encode(content).decode(),
        f"data:image/png;base64,{text}",
        f"data:;base64,{text}",
        f"DATA:image/jpeg;charset=utf-8;BASE64,{lines}",
        f"data:text/html;base64,{text}",
    ):
        assert decode_base64(spelling, MB, "image_base64") == content


@pytest.mark.parametrize("text", ["not base64!", "====", "a", "data:image/png,abc", "абв", "iVBOR*w0", "data:"])
def test_base64_that_is_none(text):
    if text == "====":
        assert decode_base64(text, MB, "image_base64") == b""
        assert refusal(decode, b"", MB, "f").startswith("INVALID_IMAGE")
    else:
        assert refusal(decode_base64, text, MB, "image_base64").startswith("INVALID_IMAGE: image_base64 is ")


def test_base64_over_the_cap():
    expected = "IMAGE_TOO_LARGE: image_base64 is larger than 1 MB (image_base64)"
    assert refusal(decode_base64, base64.b64encode(bytes(MB + 1)).decode(), MB, "image_base64") == expected
    assert refusal(decode_base64, "A" * 3 * MB, MB, "image_base64") == expected
