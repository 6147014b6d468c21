"""The Range header, edge by edge, for a file of 100 bytes."""

import pytest
from wan_relay.service.gateway.byte_range import UnsatisfiableRange, byte_range

SIZE = 100
HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=0-", 0, 100),
        ("bytes=99-", 99, 100),
        ("bytes=99-99", 99, 100),
        ("bytes=99-100", 99, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=10-1000", 10, 100),
        (f"bytes=10-{HUGE}", 10, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-101", 0, 100),
        (f"bytes=-{HUGE}", 0, 100),
        ("bytes=007-08", 7, 9),
        (f"bytes={'0' * 5000}7-8", 7, 9),
        ("Bytes = 1-2", 1, 3),
        ("bytes= ,1-2, ", 1, 3),
    ],
)
def test_one_range(header: str, start: int, end: int):
    assert byte_range(header, SIZE) == (start, end)


@pytest.mark.parametrize(
    "header", ["bytes=100-", "bytes=100-200", f"bytes={HUGE}-", "bytes=-0", f"bytes={HUGE}-{HUGE}"]
)
def test_a_range_of_nothing(header: str):
    with pytest.raises(UnsatisfiableRange):
        byte_range(header, SIZE)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"])
def test_an_empty_file_has_no_range(header: str):
    with pytest.raises(UnsatisfiableRange):
        byte_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=,",
        "bytes=5-4",
        f"bytes={HUGE}-5",
        "bytes=0-1,5-6",
        "bytes=0-1,,-5",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=1.0-2",
        "bytes=+1-2",
        "bytes=1--2",
        "bytes=--2",
        "bytes=1 - 2",
        "bytes=\u0661-\u0662",
        "bytes:0-1",
        "items=0-1",
        "seconds=1-2",
    ],
)
def test_what_is_no_single_range_is_ignored(header: str):
    assert byte_range(header, SIZE) is None
