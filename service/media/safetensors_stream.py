"""Whether bytes that arrive are a safetensors file, said as soon as it is known.

Layout (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header, then the data,
which the tensors' offsets cover from the first byte to the last.
"""

import json
import struct
from typing import Any

# A LoRA of a thousand layers has 0.3 MB.
MAX_HEADER_BYTES = 16_000_000
_FOREIGN = (
    (b"pk\x03\x04", "a zip archive or a PyTorch pickle"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"gguf", "a GGUF file"),
    (b"version ", "a Git LFS pointer"),
    (b"<", "a web page, perhaps a login page"),
)


class NotSafetensors(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


class SafetensorsStream:
    """`feed` it the file's bytes in their order, and `finish` it; both raise NotSafetensors."""

    def __init__(self) -> None:
        self._start = bytearray()  # up to the header's end
        self._received = 0
        self.total_bytes: int | None = None
        """Of the whole file, once the header is there."""

    def feed(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self.total_bytes is None:
            self._start += chunk
            self._read_header()
        if self.total_bytes is not None and self._received > self.total_bytes:
            raise NotSafetensors("has bytes after its last tensor")

    def finish(self) -> None:
        if self.total_bytes is None or self._received < self.total_bytes:
            raise NotSafetensors("is cut short")

    def _read_header(self) -> None:
        if len(self._start) < 8:
            return
        (header_bytes,) = struct.unpack("<Q", self._start[:8])
        if not 2 <= header_bytes <= MAX_HEADER_BYTES:
            raise NotSafetensors(_foreign(bytes(self._start[:32])))
        end = 8 + header_bytes
        if len(self._start) >= end:
            self.total_bytes = end + _data_bytes(bytes(self._start[8:end]))
            self._start.clear()


def _foreign(start: bytes) -> str:
    """Only of a start that gives no possible header length: that of a real file may begin with any byte."""
    text = start.lstrip().lower()
    what = next((what for magic, what in _FOREIGN if text.startswith(magic)), "")
    return (f"is {what}, and " if what else "") + "must be a safetensors file"


def _data_bytes(header: bytes) -> int:
    """Bytes of all tensors, which lie one behind the other without a gap."""
    try:
        entries = json.loads(header)
        places = [_place(entry) for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NotSafetensors("has a damaged safetensors header") from None
    end = 0
    for begin, stop in sorted(places):
        if begin != end:
            raise NotSafetensors("has a safetensors header whose tensors overlap or leave gaps")
        end = stop
    if not places:
        raise NotSafetensors("has no tensor")
    return end


def _place(entry: Any) -> tuple[int, int]:
    begin, end = entry["data_offsets"]
    numbers = [begin, end, *entry["shape"]]
    if not isinstance(entry["dtype"], str) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise ValueError("offsets and sizes are whole numbers")
    if begin > end:
        raise ValueError("a tensor ends behind its beginning")
    return begin, end
