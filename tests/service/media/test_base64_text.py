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


FORM_POSTED = [
    bytes(range(256)) + b"\xfb\xef\xbe" * 30 + bytes(range(256)),
    b"\x00" * 900 + b"\xfb" + b"\x00" * 300,
    b"\x00" * 900 + b"\xfb\xef\xbe" + b"\x00" * 300,
    b"\x00" * 900 + b"\xfb" * 1200,
    *(b"\x00" * 60 + b"\xfb" * size + b"\x00" * 30 for size in range(1, 9)),
]


@pytest.mark.parametrize("content", FORM_POSTED, ids=len)
def test_plus_that_a_form_turned_into_a_blank(content):
    for extra in (b"", b"\x01", b"\x01\x02"):
        text = base64.b64encode(content + extra).decode()
        lines = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))
        assert "+" in text
        for spelling in (text, lines, f"data:image/png;base64,{text}", lines + "\n"):
            assert decode_base64(spelling.replace("+", " "), MB, "image_base64") == content + extra


@pytest.mark.parametrize("width", [4, 60, 64, 70, 76])
@pytest.mark.parametrize("fold", [" ", "  ", " \n", "\n  ", " \t"])
def test_lines_folded_with_blanks(width, fold):
    for size in (3 * width, 900, 901, 902, 1140):
        content = bytes(i % 251 for i in range(size))
        text = base64.b64encode(content).decode()
        lines = fold.join(text[i : i + width] for i in range(0, len(text), width))
        assert decode_base64(lines, MB, "image_base64") == content


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
