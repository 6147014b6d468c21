"""Whatever arrives, however it is cut into pieces: a safetensors file, or what is wrong with it."""

import json
import random
import struct
from typing import Any

import pytest
from wan_relay.service.media.safetensors_stream import MAX_HEADER_BYTES, NotSafetensors, SafetensorsStream


def file_of(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(begin: Any, end: Any, shape: Any = (2,), dtype: Any = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [begin, end]}


GOOD = file_of({"__metadata__": {"a": "b"}, "y": tensor(4, 8), "x": tensor(0, 4), "z": tensor(8, 8, (0,))}, bytes(8))


def verdict(content: bytes, sizes: tuple[int, ...] = ()) -> tuple[str, int]:
    """What is said, "" for a good file, and after how many bytes."""
    stream, at = SafetensorsStream(), 0
    ends = [*sizes, *range(sum(sizes), len(content) + 1)] if not sizes else [*sizes, len(content)]
    try:
        for end in ends:
            stream.feed(content[at:end])
            at = max(at, end)
        stream.finish()
    except NotSafetensors as fault:
        return str(fault), end
    assert stream.total_bytes == len(content)
    return "", at


@pytest.mark.parametrize("sizes", [(), (len(GOOD),), (3, 20), (8,), (len(GOOD) - 8,), (len(GOOD) - 1,)])
def test_a_good_file_in_any_pieces(sizes: tuple[int, ...]) -> None:
    assert verdict(GOOD, sizes) == ("", len(GOOD))


DAMAGED, NO_FILE = "has a damaged safetensors header", "must be a safetensors file"
GAPS = "has a safetensors header whose tensors overlap or leave gaps"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + bytes(200), "is a zip archive or a PyTorch pickle, and must be a safetensors file"),
        (b"\x80\x02}q\x00." + bytes(200), "is a Python pickle, and must be a safetensors file"),
        (b"GGUF" + bytes(200), "is a GGUF file, and must be a safetensors file"),
        (b"\n <!DOCTYPE html>" + b" " * 99, "is a web page, perhaps a login page, and must be a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer, and must be a safetensors file"),
        (b'{"error": "Unauthorized"}', NO_FILE),
        (struct.pack("<Q", 2**63) + bytes(99), NO_FILE),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(99), NO_FILE),
        (bytes(99), NO_FILE),
        (file_of(b"{broken"), DAMAGED),
        (file_of(b"[" * 100_000), DAMAGED),
        (file_of([]), DAMAGED),
        (file_of({"x": 3}), DAMAGED),
        (file_of({"x": {"dtype": "F16", "shape": [2]}}), DAMAGED),
        (file_of({"x": tensor(4, 0)}), DAMAGED),
        (file_of({"x": tensor(0, 4.0)}), DAMAGED),
        (file_of({"x": tensor(-4, 0)}), DAMAGED),
        (file_of({"x": tensor(False, True)}), DAMAGED),
        (file_of({"x": tensor(0, 2**64)}), DAMAGED),
        (file_of({"x": tensor(0, 4, "2")}), DAMAGED),
        (file_of({"x": tensor(0, 4, (2,), 16)}), DAMAGED),
        (file_of({}), "has no tensor"),
        (file_of({"__metadata__": {}}), "has no tensor"),
        (file_of({"x": tensor(4, 8)}, bytes(8)), GAPS),
        (file_of({"x": tensor(0, 4), "y": tensor(2, 6)}, bytes(6)), GAPS),
        (file_of({"x": tensor(0, 4), "y": tensor(0, 4)}, bytes(4)), GAPS),
        (GOOD + b"\x00", "has bytes after its last tensor"),
        (GOOD[:-1], "is cut short"),
        (GOOD[:30], "is cut short"),
        (GOOD[:5], "is cut short"),
        (b"", "is cut short"),
    ],
)
def test_what_is_wrong(content: bytes, words: str) -> None:
    assert verdict(content)[0] == verdict(content, (len(content),))[0] == words


@pytest.mark.parametrize("header_bytes", [ord("<") + 256, 0x0280, 0x0480])
def test_a_good_file_that_begins_like_a_foreign_one(header_bytes: int) -> None:
    header = json.dumps({"x": tensor(0, 4)}).encode().ljust(header_bytes)
    assert verdict(file_of(header, bytes(4))) == ("", 8 + header_bytes + 4)


def test_a_foreign_file_is_known_by_its_first_bytes_and_a_damaged_one_by_its_header() -> None:
    assert verdict(b"PK\x03\x04" + bytes(10_000))[1] == 8
    assert verdict(struct.pack("<Q", 2**40) + bytes(10_000))[1] == 8
    broken = file_of({"x": tensor(4, 10_000)}, bytes(10_000))
    assert verdict(broken)[1] == len(broken) - 10_000


def test_no_damage_is_another_error() -> None:
    refused = 0
    for seed in range(300):
        rng = random.Random(seed)
        content = bytearray(GOOD)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(GOOD) - 8)] = rng.choice([rng.randrange(256), *b'0123456789[]{}",.-'])
        try:
            stream = SafetensorsStream()
            stream.feed(bytes(content))
            stream.finish()
        except NotSafetensors:
            refused += 1
    assert refused > 100
