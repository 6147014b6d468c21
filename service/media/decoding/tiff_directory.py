"""The first directory of a TIFF file, which is what an EXIF block is too: read, and reduced to what pixels need."""

from dataclasses import dataclass
from typing import Literal

Order = Literal["big", "little"]

ORIENTATION, XMP, PROFILE = 274, 700, 34675

# TIFF 6.0 and its technical notes: what a decoder asks for. All other tags describe the picture.
_PIXEL_TAGS = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 332, 338, 339, 347}
    | set(range(322, 326))
    | set(range(512, 522))
    | set(range(529, 533))
)
_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 16: 8}


@dataclass(frozen=True)
class TiffDirectory:
    """Tag -> its entry as it stands in the file; `next_offset` is 0 where no other directory follows."""

    entries: dict[int, bytes]
    start: int
    next_offset: int
    order: Order
    is_big_tiff: bool

    def number(self, tag: int) -> int | None:
        """A single BYTE, SHORT or LONG, which stands in the entry itself."""
        entry = self.entries.get(tag, b"")
        width = {1: 1, 3: 2, 4: 4}.get(self._number(entry[2:4]), 0)
        at = 12 if self.is_big_tiff else 8
        return self._number(entry[at : at + width]) if width else None

    def data(self, tag: int, content: bytes) -> bytes:
        """The bytes of a tag that is longer than its entry; empty where it is missing."""
        entry = self.entries.get(tag, b"")
        half = 8 if self.is_big_tiff else 4
        length = self._number(entry[4 : 4 + half]) * _UNIT_BYTES.get(self._number(entry[2:4]), 0)
        offset = self._number(entry[4 + half :])
        return content[offset : offset + length] if length > half else b""

    def only_pixels(self, content: bytes) -> bytes:
        """The same file, its first directory without the tags that only describe, and no directory after it."""
        kept = [entry for tag, entry in self.entries.items() if tag in _PIXEL_TAGS]
        count, pointer = (8, 8) if self.is_big_tiff else (2, 4)
        directory = len(kept).to_bytes(count, self.order) + b"".join(kept) + bytes(pointer)
        return content[: self.start] + directory + content[self.start + len(directory) :]

    def _number(self, raw: bytes) -> int:
        return int.from_bytes(raw, self.order)


def read_directory(content: bytes) -> TiffDirectory | None:
    """None for what is no TIFF. A directory that is cut off is read as far as it goes."""
    if content[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    order: Order = "big" if content[:2] == b"MM" else "little"
    is_big_tiff = b"+" in content[2:4]
    count, pointer, length = (8, 8, 20) if is_big_tiff else (2, 4, 12)
    at = 8 if is_big_tiff else 4
    start = int.from_bytes(content[at : at + pointer], order)
    first = start + count
    number = min(int.from_bytes(content[start:first], order), max(0, len(content) - first) // length)
    entries: dict[int, bytes] = {}
    for position in range(first, first + number * length, length):
        entry = content[position : position + length]
        entries.setdefault(int.from_bytes(entry[:2], order), entry)
    end = first + number * length
    return TiffDirectory(entries, start, int.from_bytes(content[end : end + pointer], order), order, is_big_tiff)
