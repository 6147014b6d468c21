"""Files made to burn time or memory, and files that chance has damaged: soon a picture or one sentence."""

import asyncio
import dataclasses
import random
import re
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media.decoding.parts import ANIMATED, PAGES
from wan_relay.service.media.plain_image import DecodeLimits, PlainImage, make_plain
from wan_relay.tests.service.media.pictures import (
    LONG,
    MB,
    SHORT,
    chunk,
    encoded,
    exif_block,
    grey_tiff,
    picture,
    pixels,
    plain,
    png_file,
    segment,
    slow_jpeg,
    with_chunks,
    with_riff_chunks,
    with_segments,
)

LIMITS = DecodeLimits(50 * MB, cpu_s=2, memory=DecodeLimits.of_pixels(50 * MB).memory)
SENTENCE = re.compile(r"(INVALID_IMAGE|IMAGE_TOO_LARGE|IMAGE_TOO_SMALL): [^\n]{10,250} \(image\)")


async def outcome(content: bytes, limits: DecodeLimits) -> PlainImage | str:
    try:
        return await make_plain(content, limits, "image")
    except JobError as error:
        return str(error)


def timed_outcomes(*contents: bytes, limits: DecodeLimits = LIMITS) -> list[PlainImage | str]:
    """Of files that come at once; within the deadline and what a busy machine needs to notice it."""

    async def at_once() -> list[PlainImage | str]:
        return await asyncio.gather(*(outcome(content, limits) for content in contents))

    started = time.monotonic()
    outcomes = asyncio.run(at_once())
    assert time.monotonic() - started < limits.deadline_s + 20
    for result in outcomes:
        assert isinstance(result, PlainImage) or SENTENCE.fullmatch(result), result
    return outcomes


def peak_rss() -> int:
    """Bytes that this process has held at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# --- time ---


def chained_tiff(size: int, last: bytes = b"") -> bytes:
    """A good page, and then as many more directories as fit into `size` bytes, each naming the next one."""
    data = bytes([77]) * 320
    first = grey_tiff(8, data, next_offset=len(grey_tiff(8, data)))
    tags = ((256, 20), (257, 16), (258, 8), (262, 1), (273, 8))
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    step = len(page) + 4
    links = b"".join(page + struct.pack("<I", offset) for offset in range(len(first) + step, size, step))
    return first + links + last


def test_scans_without_end_are_ended() -> None:
    [refused] = timed_outcomes(slow_jpeg(30_000))
    assert re.fullmatch(r"INVALID_IMAGE: decoding image took more than (2|4) s \(image\)", str(refused))


def test_pages_without_end_are_not_asked_for() -> None:
    for content in (chained_tiff(8 * MB), chained_tiff(8 * MB, last=b"\xff" * 5000)):
        [taken] = timed_outcomes(content)
        assert isinstance(taken, PlainImage)
        assert (pixels(taken.content).getpixel((0, 0)), taken.warnings) == ((77, 77, 77), (PAGES,))


def test_frames_without_end_are_not_counted() -> None:
    gif = encoded(picture(), "GIF", save_all=True, append_images=[picture(colour=(1, 2, 3))])
    block = gif[gif.rindex(b"!\xf9") : -1]
    webp = encoded(picture(), "WEBP", save_all=True, append_images=[picture(colour=(1, 2, 3))])
    frame = webp[webp.rindex(b"ANMF") + 8 :]
    for content in (
        gif[:-1] + block * (5 * MB // len(block)) + b";",
        with_riff_chunks(webp, *[(b"ANMF", frame)] * (5 * MB // len(frame))),
        with_chunks(encoded(picture()), chunk(b"acTL", struct.pack(">II", 0x7FFFFFFF, 0))),
    ):
        [taken] = timed_outcomes(content)
        assert isinstance(taken, PlainImage)
        assert taken.warnings == (ANIMATED,)


@pytest.mark.parametrize(
    "content",
    [
        with_segments(encoded(picture(), "JPEG"), segment(0xFE, b"") * (8 * MB // 4)),
        with_chunks(encoded(picture()), chunk(b"tEXt", b"") * (8 * MB // 12)),
        with_chunks(encoded(picture()), *[chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(64 * MB)))] * 30),
        encoded(picture(), "GIF")[:13] + b"!\xfe\1x\0" * MB + encoded(picture(), "GIF")[13:],
    ],
    ids=["segments", "chunks", "profiles", "comments"],
)
def test_descriptions_without_end(content: bytes) -> None:
    timed_outcomes(content)


# --- memory ---


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory, and has /proc")
def test_large_canvases_of_few_bytes_leave_nothing_behind() -> None:
    webp = encoded(picture(size=(7000, 7000)), "WEBP", lossless=True)
    before = peak_rss()
    taken = timed_outcomes(webp, webp, limits=dataclasses.replace(LIMITS, cpu_s=30))
    assert len(webp) < 4000
    assert peak_rss() - before < 100 * MB
    assert taken[0] == taken[1]


@pytest.mark.parametrize(
    "content",
    [
        png_file(7000, 7000, 8, 6, bytes(1)),
        png_file(65000, 65000, 8, 6, bytes(1)),
        encoded(picture("1", (7000, 7000), 1), "TIFF", compression="group4"),
        grey_tiff(8, bytes(320)).replace(
            struct.pack("<HHIHH", 256, 3, 1, 20, 0), struct.pack("<HHII", 256, 4, 1, 2**31)
        ),
        encoded(picture(), "GIF")[:6] + b"\xff\xff\xff\xff" + encoded(picture(), "GIF")[10:],
        b"BM"
        + encoded(picture(), "BMP")[2:18]
        + struct.pack("<ii", 2**31 - 1, 2**31 - 1)
        + encoded(picture(), "BMP")[26:],
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0\xff\x3f\0\xff\x3f\0",
    ],
    ids=["png", "large png", "tiff", "large tiff", "large gif", "large bmp", "large webp"],
)
def test_large_sizes_of_few_bytes(content: bytes) -> None:
    timed_outcomes(content)


# --- chance ---


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, or a part cut out, doubled, or filled; mostly near the beginning, where the structure is."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        start = int(len(data) * chance.random() ** 3)
        length = chance.choice([1, 1, 1, 2, 4, chance.randint(1, 300)])
        change: Callable[[bytes], bytes] = chance.choice(
            [
                lambda part: chance.randbytes(len(part)),
                lambda part: b"",
                lambda part: part * 2,
                lambda part: b"\xff" * len(part),
                lambda part: bytes(len(part)),
            ]
        )
        data[start : start + length] = change(bytes(data[start : start + length]))
    return bytes(data)


def samples() -> list[bytes]:
    photo = Image.frombytes("RGB", (48, 40), random.Random(1).randbytes(48 * 40 * 3))
    exif = exif_block(6, {282: (LONG, [1]), 271: (SHORT, [1, 2, 3, 4])})
    described = {"exif": exif, "icc_profile": bytes(500)}

    def animated(kind: str, **options) -> bytes:
        return encoded(photo.copy(), kind, save_all=True, append_images=[picture(size=(48, 40))], **options)

    return [
        *(animated(kind) for kind in ("TIFF", "GIF", "PNG", "MPO")),
        animated("WEBP", lossless=True),
        *(encoded(photo.copy(), kind, **described) for kind in ("JPEG", "PNG", "WEBP")),
        encoded(photo.copy(), "JPEG", progressive=True),
        encoded(photo.convert("CMYK"), "JPEG"),
        encoded(photo.quantize(16), "PNG", transparency=3),
        encoded(photo.copy(), "BMP"),
        encoded(photo.quantize(16), "BMP"),
        *(encoded(photo.copy(), "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")),
        encoded(photo.convert("1"), "TIFF", compression="group4"),
        encoded(photo.convert("F"), "TIFF"),
    ]


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_a_picture_or_a_sentence() -> None:
    chance = random.Random(20)
    taken, sentences = 0, set()
    for content in samples() * 40:
        try:
            taken += pixels(plain(damaged(content, chance)).png).width >= 16
        except JobError as error:
            sentences.add(str(error))
    assert [sentence for sentence in sentences if not SENTENCE.fullmatch(sentence)] == []
    assert 100 < taken < 700


def test_damaged_files_in_the_process_too() -> None:
    chance = random.Random(21)
    for content in samples():
        timed_outcomes(damaged(content, chance))
