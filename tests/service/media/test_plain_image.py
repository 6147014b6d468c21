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
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media import plain_image
from wan_relay.service.media.decoding.colours import OVER_WHITE
from wan_relay.service.media.plain_image import DecodeLimits, PlainImage, make_plain
from wan_relay.tests.service.media.pictures import MB, encoded, picture, pixels, refusal, slow_jpeg
from wan_relay.tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
LIMITS = DecodeLimits.of_pixels(50 * MB)
PHOTO = Image.radial_gradient("L").resize((60, 40)).convert("RGB")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs a limit that only Linux has")


def made(content: bytes, limits: DecodeLimits = LIMITS) -> PlainImage:
    return asyncio.run(make_plain(content, limits, "image"))


def ready() -> subprocess.Popen[bytes]:
    """The process that the next picture will have."""
    if not plain_image._ready or plain_image._ready[-1].poll() is not None:
        made(encoded(PHOTO))
    return plain_image._ready[-1]


def decoders(ancestor: int = os.getpid()) -> set[int]:
    """Processes that decode, or wait to."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"decoding.child" in (folder / "cmdline").read_bytes() and comes_from(ancestor, int(folder.name)):
                found.add(int(folder.name))
    return found


def comes_from(ancestor: int, pid: int) -> bool:
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent == ancestor or (parent > 1 and comes_from(ancestor, parent))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """But for those that are ready for the next picture."""
    yield
    if sys.platform == "linux":
        wait_until(lambda: decoders() <= {child.pid for child in plain_image._ready})


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
    child = ready()
    assert asyncio.run(cancelled(make_plain(slow_jpeg(20_000), LIMITS, "image"), after_s)) < 5
    assert child.wait(20) == -signal.SIGKILL


CRASHES = {
    signal.SIGSEGV: "INVALID_IMAGE: image is truncated or damaged (image)",
    signal.SIGKILL: "IMAGE_TOO_LARGE: decoding image takes more than 2000 MB of memory (image)",
}


@on_linux
@pytest.mark.parametrize("sign", CRASHES)
@pytest.mark.parametrize("is_fork", [True, False])
def test_a_decoder_that_crashes_is_a_sentence(is_fork: bool, sign: signal.Signals) -> None:
    child = ready()

    async def crash() -> None:
        task = asyncio.create_task(make_plain(slow_jpeg(20_000), LIMITS, "image"))
        async with asyncio.timeout(20):
            while len(forks := decoders() - {each.pid for each in plain_image._ready} - {child.pid}) != 1:
                await asyncio.sleep(0.05)
        os.kill(forks.pop() if is_fork else child.pid, sign)
        await task

    assert refusal(asyncio.run, crash()) == CRASHES[sign]
    assert (ready() is child) is is_fork
    assert made(encoded(PHOTO)).warnings == ()


def test_a_process_serves_one_picture_after_the_other() -> None:
    child = ready()
    for content in (encoded(PHOTO), b"no picture", encoded(PHOTO)):
        with contextlib.suppress(JobError):
            made(content)
        assert ready() is child


def test_a_process_that_died_while_it_waited_is_replaced() -> None:
    child = ready()
    child.kill()
    child.wait(20)
    assert made(encoded(PHOTO)).warnings == ()
    assert ready() is not child


def test_pictures_at_once() -> None:
    """Each has a process; two are kept."""

    async def at_once() -> list[PlainImage]:
        contents = [encoded(picture(colour=(n, 0, 0))) for n in range(5)]
        return await asyncio.gather(*(make_plain(content, LIMITS, "image") for content in contents))

    assert [pixels(plain.content).getpixel((0, 0)) for plain in asyncio.run(at_once())] == [(n, 0, 0) for n in range(5)]
    assert len(plain_image._ready) == plain_image.KEPT == 2


def test_a_picture_takes_nothing_from_the_next(tmp_path: Path) -> None:
    """Limits and memory are those of the fork."""
    child = ready()
    assert refusal(made, encoded(picture("1", (7000, 7000), 1)), DecodeLimits(50 * MB, cpu_s=20, memory=200 * MB))
    assert made(encoded(picture(size=(5000, 5000)))).warnings == ()
    assert ready() is child
    if sys.platform == "linux":
        assert rss(child.pid) < 80 * MB


def rss(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@on_linux
def test_the_process_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "sesame")
    child = ready()
    child.kill()
    child.wait(20)
    entries = Path(f"/proc/{ready().pid}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in entries} - {"", "LC_CTYPE"}  # Python sets that by itself
    assert names <= set(plain_image.VARIABLES)


@on_linux
def test_nothing_outlives_the_worker() -> None:
    """Neither a process that waits nor one that decodes, also when the worker could not say goodbye."""
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from service.media.plain_image import DecodeLimits, make_plain
content = sys.stdin.buffer.read()
async def forever():
    limits = DecodeLimits(50_000_000, cpu_s=600, memory=2_000_000_000)
    await asyncio.gather(*(make_plain(content, limits, "image") for _ in range(2)))
asyncio.run(forever())
"""
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    worker.stdin.write(slow_jpeg(20_000))
    worker.stdin.close()
    wait_until(lambda: len(decoders(worker.pid)) == 4)
    started = decoders(worker.pid)
    worker.kill()
    worker.wait(20)
    wait_until(lambda: not any(has_command(pid) for pid in started))


def has_command(pid: int) -> bool:
    """A zombie has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False
