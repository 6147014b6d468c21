"""What may be shown."""

import pytest
from wan_relay.service.contract.public_text import MAX_SENTENCE, public_text


@pytest.mark.parametrize(
    ("raw", "public"),
    [
        ("cannot open /home/me/models/vae/a.safetensors", "cannot open a.safetensors"),
        ("File '/etc/ssl/private/key.pem', line 3", "File 'key.pem', line 3"),
        (r"C:\Users\me\a.png is gone", "a.png is gone"),
        ("two\nlines\tand\x00nul", "two lines and nul"),
        ("see https://example.com/a/b", "see https://example.com/a/b"),
        ("Authorization: Bearer rpa_ABCDEFGHIJKLMNOPQRSTUV", "Authorization: [removed]"),
        ("key rpa_ABCDEFGHIJKLMNOPQRSTUV", "key [removed]"),
        ("got " + "iVBORw0KGgo" * 40, "got [data]"),
        ("height 720/1280 ok", "height 720/1280 ok"),
    ],
)
def test_public_text(raw, public):
    assert public_text(raw) == public


def test_public_text_ends():
    assert len(public_text("word " * 1000)) <= MAX_SENTENCE
    assert public_text("A" * 10**8) == "[data]"
