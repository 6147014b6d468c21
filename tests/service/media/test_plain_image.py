"""Pictures are decoded in a process of their own: the same PNG for the same file, and an end to everything."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from wan_relay.service.media import plain_image
from wan_relay.service.media.decoding.colours import OVER_WHITE
from wan_relay.service.media.plain_image import DecodeLimits, PlainImage, make_plain
from wan_relay.tests.service.media.pictures import MB, encoded, picture, pixels, refusal, slow_jpeg

ROOT = Path(__file__).resolve().parents[3]
LIMITS = DecodeLimits.of_pixels(50 * MB)
PHOTO = Image.radial_gradient("L").resize((60, 40)).convert("RGB")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs a limit that only Linux has")


def made(content: bytes, limits: DecodeLimits = LIMITS) -> PlainImage:
    return asyncio.run(make_plain(content, limits, "image"))


def waiting() -> subprocess.Popen[bytes]:
    """The process that is ready for the next picture; the one that `make_plain` will use."""
    plain_image._start_ahead()
    assert plain_image._waiting is not None
    return plain_image._waiting


def decoders() -> set[int]:
    """Children of this process that decode, or wait to."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"decoding.child" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """But for the one process that waits for the next picture."""
    yield
    if sys.platform == "linux":
        deadline = time.monotonic() + 20
        while not decoders() <= {waiting().pid}:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_jpeg_goes_on_as_a_png_with_the_pixels_that_pillow_sees() -> None:
    content = encoded(PHOTO, "JPEG", quality=90)
    plain = made(content)
    assert (plain.name[:10], plain.name[-4:], plain.warnings) == ("wan_relay_", ".png", ())
    assert pixels(plain.content).tobytes() == Image.open(io.BytesIO(content)).tobytes()


def test_the_same_file_has_the_same_name_and_another_another() -> None:
    contents = [encoded(PHOTO, kind) for kind in ("JPEG", "WEBP", "PNG", "BMP")]
    names = [made(content).name for content in contents]
    assert [made(content).name for content in contents] == names
    assert len(set(names)) == 3
    assert names[2] == names[3]  # the same pixels


@pytest.mark.comfy
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_load_image_sees_exactly_those_pixels(mode: str, tmp_path: Path) -> None:
    """LoadImage decodes by FFmpeg, whose JPEG decoder is not Pillow's: of a PNG there is only one reading."""
    from comfy_api.latest import InputImpl

    plain = made(encoded(PHOTO.convert(mode), "JPEG", quality=80))
    (tmp_path / plain.name).write_bytes(plain.content)
    [frame] = InputImpl.VideoFromFile(str(tmp_path / plain.name)).get_components().images
    assert frame.shape == (40, 60, 3)
    assert bytes((frame * 255).round().byte().numpy()) == pixels(plain.content).tobytes()


def test_warnings_and_refusals_come_through() -> None:
    assert made(encoded(picture("LA", colour=(9, 9)))).warnings == (OVER_WHITE,)
    refused = refusal(made, b"\0\0\0\x10ftypheis\0\0\0\0")
    assert refused == "INVALID_IMAGE: image is not an image that can be read: HEIC is not supported (image)"
    assert refusal(made, encoded(picture(size=(9, 9)))).startswith("IMAGE_TOO_SMALL: image is 9 x 9; ")
    assert refusal(made, encoded(picture()), DecodeLimits.of_pixels(900)) == (
        "IMAGE_TOO_LARGE: image has 40 x 24 pixels, at most 0.0009 million are taken (image)"
    )


def test_limits_grow_with_the_pixels_that_are_taken() -> None:
    assert DecodeLimits.of_pixels(50 * MB) == DecodeLimits(50 * MB, cpu_s=15.0, memory=2_000_000_000)
    assert DecodeLimits.of_pixels(100 * MB) == DecodeLimits(100 * MB, cpu_s=25.0, memory=3_500_000_000)


def test_a_decode_ends_at_its_deadline() -> None:
    started = time.monotonic()
    limits = DecodeLimits(50 * MB, cpu_s=0.2, memory=LIMITS.memory)
    assert refusal(made, slow_jpeg(20_000), limits) == "INVALID_IMAGE: decoding image took more than 0.4 s (image)"
    assert time.monotonic() - started < 20


def test_a_decode_ends_when_it_used_its_processor_time() -> None:
    """The kernel ends it, also when nobody looks; on a busy machine the deadline may come first."""
    limits = DecodeLimits(50 * MB, cpu_s=1, memory=LIMITS.memory)
    sentences = [f"INVALID_IMAGE: decoding image took more than {seconds} s (image)" for seconds in (1, 2)]
    assert refusal(made, slow_jpeg(20_000), limits) in sentences


@on_linux
def test_a_decode_ends_at_its_memory() -> None:
    limits = DecodeLimits(50 * MB, cpu_s=20, memory=200 * MB)
    sentence = "IMAGE_TOO_LARGE: decoding image takes more than 200 MB of memory (image)"
    assert refusal(made, encoded(picture("1", (7000, 7000), 1)), limits) == sentence
    assert made(encoded(PHOTO), limits).warnings == ()


async def cancelled(work: Coroutine[Any, Any, Any], after_s: float) -> float:
    """Seconds from the cancellation to the end."""
    task = asyncio.create_task(work)
    await asyncio.sleep(after_s)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - started


@pytest.mark.parametrize("after_s", [0.0, 0.05, 1.0])
def test_a_cancelled_decode_ends_at_once(after_s: float) -> None:
    child = waiting()
    assert asyncio.run(cancelled(make_plain(slow_jpeg(20_000), LIMITS, "image"), after_s)) < 5
    assert child.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("sign", "sentence"),
    [
        (signal.SIGSEGV, "INVALID_IMAGE: image is truncated or damaged (image)"),
        (signal.SIGKILL, "IMAGE_TOO_LARGE: decoding image takes more than 2000 MB of memory (image)"),
    ],
)
def test_a_decoder_that_crashes_is_a_sentence(sign: signal.Signals, sentence: str) -> None:
    async def crash() -> None:
        child = waiting()
        task = asyncio.create_task(make_plain(slow_jpeg(20_000), LIMITS, "image"))
        await asyncio.sleep(0.5)
        os.kill(child.pid, sign)
        await task

    assert refusal(asyncio.run, crash()) == sentence


def test_one_process_is_started_ahead() -> None:
    async def until_ready() -> int:
        await make_plain(encoded(PHOTO), LIMITS, "image")
        async with asyncio.timeout(20):
            while plain_image._waiting is None:
                await asyncio.sleep(0.05)
        return waiting().pid

    first = asyncio.run(until_ready())
    assert asyncio.run(until_ready()) != first


def test_a_process_that_died_while_it_waited_is_replaced() -> None:
    waiting().kill()
    waiting().wait(20)
    assert made(encoded(PHOTO)).warnings == ()


def test_pictures_at_once() -> None:
    async def at_once() -> list[PlainImage]:
        contents = [encoded(picture(colour=(n, 0, 0))) for n in range(5)]
        return await asyncio.gather(*(make_plain(content, LIMITS, "image") for content in contents))

    assert [pixels(plain.content).getpixel((0, 0)) for plain in asyncio.run(at_once())] == [(n, 0, 0) for n in range(5)]


@on_linux
def test_the_process_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "sesame")
    waiting().kill()
    waiting().wait(20)
    made(encoded(PHOTO))
    names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{waiting().pid}/environ").read_bytes().split(b"\0")}
    assert names - {b""} <= {name.encode() for name in plain_image.VARIABLES}


@on_linux
def test_the_waiting_process_does_not_outlive_the_worker() -> None:
    code = f"""
import asyncio, sys, time
sys.path.insert(0, {str(ROOT)!r})
from service.media import plain_image
plain_image._start_ahead()
print(plain_image._waiting.pid, flush=True)
time.sleep(600)
"""
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = Path("/proc", worker.stdout.readline().strip())
    assert child.exists()
    worker.kill()
    worker.wait(20)
    deadline = time.monotonic() + 20
    while child.exists() and ") Z " not in (child / "stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.stdout.close()
