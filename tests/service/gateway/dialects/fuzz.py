"""Bodies that no client means: a good one with values changed, left out, nested wrong, and fields nobody knows."""

import copy
import random
from collections.abc import Iterator
from typing import Any

SECRET = "s3cret-value"
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    82,
    10**9,
    2**31,
    2**63,
    2**64,
    -(2**70),
    10**300,
    1e308,
    "",
    " ",
    "1",
    "-3",
    "NaN",
    "1e5",
    "\x00",
    "\ud800",
    "💡" * 50,
    "x" * 20_000,
    "http://127.0.0.1/a.png",
    "https://example.com/a b.png",
    "file:///etc/passwd",
    "data:image/png;base64,",
    "data:image/svg+xml,<svg/>",
    "AAAA",
    "[0]",
    [],
    [[]],
    [1, 2],
    ["x"],
    {},
    {"a": {"b": []}},
    {"input": {}},
)
NAMES = (
    "auth",
    "api_key",
    "",
    "__proto__",
    "prompt ",
    "Prompt",
    "lenght",
    "model_id",
    "\ud800",
    "a" * 500,
    "input",
    "x",
)


def bodies(good: dict[str, Any], number: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The same ones each time."""
    chance = random.Random(seed)
    for _ in range(number):
        sent = copy.deepcopy(good)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 4, 8))):
            _spoil(sent, chance)
        yield sent


def _spoil(sent: dict[str, Any], chance: random.Random) -> None:
    at = sent
    while inner := [value for value in at.values() if isinstance(value, dict) and value]:
        if chance.random() < 0.35:
            break
        at = chance.choice(inner)
    how = chance.random()
    if how < 0.25 or not at:
        at[chance.choice(NAMES)] = chance.choice((SECRET, [SECRET], {"token": SECRET}, 3))
    elif how < 0.4:
        del at[chance.choice(list(at))]
    else:
        at[chance.choice(list(at))] = copy.deepcopy(chance.choice(VALUES))


def leaks(text: str) -> bool:
    """Whether an answer repeats what it must not, or shows the code's inside."""
    return any(sign in text for sign in (SECRET, "Traceback", 'File \\"', "pydantic", "NoneType", "site-packages"))


# Bodies that are no JSON object, or none at all.
RAW = (
    b"", b" ", b"{", b"[]", b"null", b"0", b'""', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"a":1}{"b":2}', b"{'a': 1}",
    b'{"a": NaN}', b'{"a": Infinity}', b"[" * 5000, b'{"a":' * 5000, b"0" * 5000, b'{"\\ud800": 1}', b"\x00" * 10,
    b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--", b"a=1&b=2",
)  # fmt: skip
