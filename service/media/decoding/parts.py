"""A picture file taken apart: the bytes that its pixels need, and what else of it matters.

Nothing that only describes a picture can then make its pixels unreadable: EXIF, colour profiles, XMP, text, previews,
later frames and pages, bytes after the end. What is not understood stays where it is, for the decoder to judge.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .tiff_directory import ORIENTATION, PROFILE, XMP, TiffDirectory, read_directory

MAX_PROFILE = 16 * 1024 * 1024
ANIMATED = "the image is animated; its first frame is used"
PAGES = "the image has more than one page; its first is used"

_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


@dataclass(frozen=True)
class Parts:
    """`pixels` is a file of the same format, `orientation` EXIF's number from 1 to 8, `profile` an ICC profile."""

    pixels: bytes
    orientation: int = 1
    profile: bytes | None = None
    warnings: tuple[str, ...] = ()


def take_apart(content: bytes) -> Parts:
    """By the file's first bytes; a format without much beside its pixels, or an unknown one, stays whole."""
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp(content)
    if content[:2] in (b"II", b"MM"):
        return _tiff(content)
    return Parts(content)


def _orientation(directory: TiffDirectory | None, xmp: bytes) -> int:
    number = directory.number(ORIENTATION) if directory else None
    if number is None and (found := _XMP_ORIENTATION.search(xmp)):
        number = int(found[1])
    return number if number is not None and 1 <= number <= 8 else 1


# --- JPEG: segments of a marker and a length, before the first scan ---


def _jpeg(content: bytes) -> Parts:
    kept, end = [content[:2]], 2
    exif = xmp = b""
    profile: list[bytes] = []
    for marker, start, end in _jpeg_segments(content):
        data = content[start + 4 : end]
        if marker == 0xE1 and data.startswith(b"Exif\0\0"):
            exif = exif or data[6:]
        elif marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/"):
            xmp += data
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\0"):
            profile.append(data[12:])
        elif not _is_description(marker, data):
            kept.append(content[start:end])
    kept.append(content[end:])
    joined = b"".join(part[2:] for part in sorted(profile))  # each begins with its number and their count
    return Parts(b"".join(kept), _orientation(read_directory(exif), xmp), joined or None)


def _is_description(marker: int, data: bytes) -> bool:
    """Application data and comments, except for what tells a decoder the colour space."""
    if marker == 0xE0 and data.startswith(b"JFIF\0"):
        return len(data) < 14
    if marker == 0xEE and data.startswith(b"Adobe"):
        return len(data) < 12
    return 0xE0 <= marker <= 0xEF or marker == 0xFE


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of whole segments; ends before the first scan, and where anything else stands."""
    start = 2
    while content[start : start + 1] == b"\xff" and start + 4 <= len(content):
        marker = content[start + 1]
        length = int.from_bytes(content[start + 2 : start + 4])
        end = start + 2 + length
        if marker == 0xFF:  # a fill byte
            start += 1
            continue
        if marker in (0x00, 0x01, *range(0xD0, 0xDB)) or length < 2 or end > len(content):
            return
        yield marker, start, end
        start = end


# --- PNG: chunks of a length, a name, data and a checksum ---


def _png(content: bytes) -> Parts:
    kept = [content[:8]]
    header = exif = xmp = b""
    profile: bytes | None = None
    is_animated = False
    for name, start, end in _png_chunks(content):
        data = content[start + 8 : end - 4]
        if name == b"tRNS":
            kept.append(_png_chunk(name, _eight_bit_key(data, header)))
        elif not name[0] & 0x20:  # a capital first letter: needed for the pixels
            kept.append(content[start:end])
            header = data if name == b"IHDR" else header
        elif name == b"eXIf":
            exif = data
        elif name in (b"zTXt", b"tEXt") and data.startswith(b"Raw profile type exif\0"):
            exif = exif or _raw_profile(name, data)
        elif name == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0"):
            xmp = data
        elif name == b"iCCP":
            profile = _inflated(data.partition(b"\0")[2][1:])
        elif name == b"acTL":
            is_animated = int.from_bytes(data[:4]) > 1
    orientation = _orientation(read_directory(exif.removeprefix(b"Exif\0\0")), xmp)
    return Parts(b"".join(kept), orientation, profile, (ANIMATED,) if is_animated else ())


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of each chunk; the end of a chunk that is cut off is where it would be."""
    start = 8
    name = b""
    while start + 8 <= len(content) and name != b"IEND":
        name = content[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(content[start : start + 4])
        yield name, start, end
        start = end


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def _eight_bit_key(data: bytes, header: bytes) -> bytes:
    """The transparent colour at the eight bits that its picture will have; a palette's alpha stays as it is."""
    depth, colours = header[8:9], header[9:10]
    if colours not in (b"\0", b"\2") or depth not in (b"\2", b"\4", b"\x08", b"\x10"):
        return data
    values = [int.from_bytes(data[at : at + 2]) for at in range(0, len(data) - 1, 2)]
    if colours == b"\2":
        return b"".join((value >> (depth[0] - 8)).to_bytes(2) for value in values)
    highest = (1 << depth[0]) - 1
    return b"".join(((value * 255 + highest // 2) // highest % 256).to_bytes(2) for value in values)


def _raw_profile(name: bytes, data: bytes) -> bytes:
    """EXIF as ImageMagick writes it into text: a line for its kind, one for its length, then hexadecimal digits."""
    text = data.partition(b"\0")[2]
    if name == b"zTXt":
        text = _inflated(text[1:]) or b""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""


def _inflated(data: bytes) -> bytes | None:
    """None for what is damaged, or longer than any colour profile."""
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(data, MAX_PROFILE)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else inflated


# --- WebP: RIFF chunks of a name, a length and data ---


def _webp(content: bytes) -> Parts:
    kept: list[bytes] = []
    exif = xmp = b""
    profile: bytes | None = None
    frames = 0
    start = 12
    while start + 8 <= len(content):
        name = content[start : start + 4]
        end = start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        data = content[start + 8 : end]
        end += end % 2
        frames += name == b"ANMF"
        if name == b"EXIF":
            exif = data
        elif name == b"XMP ":
            xmp = data
        elif name == b"ICCP":
            profile = data
        elif name == b"VP8X" and data:
            is_in_file = data[0] & ~0b00101100  # no profile, EXIF or XMP any more
            kept.append(content[start : start + 8] + bytes([is_in_file]) + data[1:])
        elif name in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM") or (name == b"ANMF" and frames == 1):
            kept.append(content[start:end])
        start = end
    body = b"WEBP" + b"".join(kept)
    pixels = b"RIFF" + len(body).to_bytes(4, "little") + body
    orientation = _orientation(read_directory(exif.removeprefix(b"Exif\0\0")), xmp)
    return Parts(pixels, orientation, profile, (ANIMATED,) if frames > 1 else ())


# --- TIFF ---


def _tiff(content: bytes) -> Parts:
    directory = read_directory(content)
    if directory is None:
        return Parts(content)
    return Parts(
        directory.only_pixels(content),
        _orientation(directory, directory.data(XMP, content)),
        directory.data(PROFILE, content) or None,
        (PAGES,) if directory.next_offset else (),
    )
