"""The Range header (RFC 9110, 14): one range of bytes. Several, or another unit, are ignored, as they may be."""

import re
from typing import NamedTuple

_ONE = re.compile(r"\s*bytes\s*=[\s,]*(?P<first>[0-9]*)-(?P<last>[0-9]*)[\s,]*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """From `start` up to, not with, `end`."""

    start: int
    end: int


class UnsatisfiableRange(Exception):
    """The file has none of the bytes that were asked for."""


def byte_range(header: str, size: int) -> ByteRange | None:
    """The range within a file of `size` bytes, None where the whole file is to be sent. Raises UnsatisfiableRange."""
    match = _ONE.fullmatch(header)
    if not match or not (match["first"] or match["last"]):
        return None
    first, last = _number(match["first"]), _number(match["last"])
    if first is None:
        assert last is not None
        start, end = max(size - last, 0), size
    elif last is not None and last < first:
        return None
    else:
        start, end = first, size if last is None else min(last + 1, size)
    if start >= end:
        raise UnsatisfiableRange
    return ByteRange(start, end)


def _number(digits: str) -> int | None:
    """Exact up to 18 digits; a longer one is larger than any file all the same."""
    significant = digits.lstrip("0")[:19] or "0"
    return int(significant) if digits else None
