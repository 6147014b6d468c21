"""Small pictures, files made by hand around them, and how a refusal reads."""

import io
import struct
import zlib

import pytest
from PIL import Image
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media.decoding.picture import Decoded, decode

MB = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24), colour=None) -> Image.Image:
    return Image.new(mode, size, colour if colour is not None else (200, 30, 90))


PNG = encoded(picture())


def refusal(call, *args) -> str:
    with pytest.raises(JobError) as caught:
        call(*args)
    return str(caught.value)


def plain(content: bytes, max_pixels: int = MB) -> Decoded:
    return decode(content, max_pixels, "image")


def pixels(png: bytes) -> Image.Image:
    """What a PNG of ours holds: RGB, and nothing beside its pixels."""
    image = Image.open(io.BytesIO(png))
    image.load()
    assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
    return image


# --- files by hand ---


def segment(marker: int, data: bytes) -> bytes:
    """Of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_file(width: int, height: int, depth: int, colours: int, rows: bytes, *chunks: bytes) -> bytes:
    """`rows` begin with a filter byte each; `chunks` come before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    body = [header, *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def with_chunks(png: bytes, *chunks: bytes, at_end: bool = False) -> bytes:
    """Right after the header, or right before the end."""
    at = len(png) - 12 if at_end else 33
    return png[:at] + b"".join(chunks) + png[at:]


def with_riff_chunks(webp: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP with chunks of (name, data) at its end."""
    added = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(webp) - 8 + len(added)) + webp[8:] + added


# TIFF's types: (code, struct letter)
SHORT, LONG, ASCII, RATIONAL, SIGNED_RATIONAL, UNDEFINED = (3, "H"), (4, "I"), (2, "B"), (5, "I"), (10, "i"), (7, "B")


def tiff_file(tags: dict[int, tuple], data: bytes = b"", order: str = "<", next_offset: int = 0) -> bytes:
    """One directory; `tags` maps a tag to (type, values). `data` becomes the one strip where there is some."""
    tags = tags | ({273: (LONG, [0]), 279: (LONG, [len(data)])} if data else {})
    where_data = 8 + 2 + 12 * len(tags) + 4
    entries, outside = b"", b""
    if data:
        tags[273] = (LONG, [where_data])
    for tag, ((code, letter), values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        count = len(values) // 2 if code in (5, 10) else len(values)
        if len(packed) > 4:
            packed, outside = struct.pack(f"{order}I", where_data + len(data) + len(outside)), outside + packed
        entries += struct.pack(f"{order}HHI", tag, code, count) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", next_offset) + data + outside


def grey_tiff(bits: int, data: bytes, *, photometric: int = 1, sample_format: int = 1, **options) -> bytes:
    """20 x 16 pixels."""
    tags = {256: 20, 257: 16, 258: bits, 259: 1, 262: photometric, 277: 1, 278: 16, 339: sample_format}
    return tiff_file({tag: (SHORT, [value]) for tag, value in tags.items()}, data, **options)


def exif_block(orientation: int, tags: dict[int, tuple] | None = None, order: str = "<") -> bytes:
    return b"Exif\0\0" + tiff_file({274: (SHORT, [orientation])} | (tags or {}), order=order)


def slow_jpeg(num_scans: int, side: int = 7000) -> bytes:
    """A grey square whose decoder passes over all its blocks once for each scan of 75 bytes, and changes nothing.

    Two Huffman tables: `0` is a difference of nothing; `0` and `10` begin runs of blocks without anything.
    """

    def entropy(bits: str) -> bytes:
        bits += "1" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")

    def table(kind: int, lengths: list[int], symbols: list[int]) -> bytes:
        return segment(0xC4, bytes([kind << 4, *lengths, *[0] * (16 - len(lengths)), *symbols]))

    blocks = ((side + 7) // 8) ** 2
    whole_runs, rest = divmod(blocks, 32767)
    assert 8192 <= rest < 16384
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    head += table(0, [1], [0]) + table(1, [1, 1], [0xE0, 0xD0])
    first = segment(0xDA, b"\1\1\0\0\0\0") + entropy("0" * blocks)
    scan = segment(0xDA, b"\1\1\0\1\x3f\0")
    scan += entropy(("0" + "1" * 14) * whole_runs + "10" + format(rest - 8192, "013b"))
    return b"\xff\xd8" + head + first + scan * num_scans + b"\xff\xd9"
