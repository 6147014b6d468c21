"""Odd bodies, made of a good one: for each dialect's test of what it answers to nonsense."""

import json
import random
from collections.abc import Iterator
from typing import Any

SECRET = "zq-a-word-that-nobody-should-see-again"
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 5, 1.5, -0.0, 1e308, 2**53, 2**64, -(2**63), 10**400, "", " ", "0", "-1", "5", "null",
    "\x00", "\ud800", "\u202e", "é" * 300, "x" * 20_000, "../../etc/passwd", "http://", "http://127.0.0.1:22/x",
    "https://[::1]/", "file:///etc/passwd", "data:image/png;base64,", "data:image/png;base64,AAAA", "data:,", "AAAA",
    "{{7*7}}", "%s%n", "'; drop table", "480p", "16:9", "auto", [], {}, [None], [[[]]], {"a": {"b": []}},
)  # fmt: skip
RAW = (
    b"", b" ", b"{", b"[]", b"null", b"0", b'""', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"a":1}{"b":2}', b"{'a': 1}",
    b'{"a": NaN}', b'{"a": Infinity}', b"[" * 5000, b'{"a":' * 5000, b"0" * 5000, b'{"\\ud800": 1}', b"\x00" * 10,
    b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--", b"a=1&b=2",
)  # fmt: skip


def bodies(good: dict[str, Any], number: int, seed: int) -> Iterator[bytes]:
    """That many, the same for the same seed. Unknown fields have SECRET in their name or value."""
    draw = random.Random(seed)
    for index in range(number):
        if index % 10 == 0:
            yield draw.choice(RAW)
        else:
            yield json.dumps(_changed(good, draw)).encode()


def _changed(good: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    body = dict(good)
    for _ in range(draw.randint(1, 4)):
        kind = draw.random()
        name = draw.choice([*good, *body])
        if kind < 0.55:
            body[name] = _value(draw)
        elif kind < 0.7:
            body.pop(name, None)
        elif kind < 0.85:
            body[f"{name}{SECRET}" if draw.random() < 0.5 else draw.choice(("auth", "input", "__proto__"))] = SECRET
        else:
            body[name] = {name: body.get(name), SECRET: SECRET}
    return body


def _value(draw: random.Random) -> Any:
    value = draw.choice(SCALARS)
    return [value] * draw.randint(1, 3) if draw.random() < 0.1 else value
