"""A client's picture as a fresh PNG for ComfyUI, decoded in a process that can be ended.

Decoders are C libraries that work on strangers' bytes: a small file can hold them for minutes or take gigabytes, and no
thread can be stopped. So a picture has a process of its own, which ends at its deadline, at its limits of processor
time and memory, or when the job is cancelled.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..child_process import end_child, signal_group, start_child
from ..contract.errors import JobError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "service.media.decoding.child")
# What a Python needs to start; the worker's keys are not for a process that reads strangers' bytes.
VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
KEPT = 2  # a video has two ends

_ready: "list[subprocess.Popen[bytes]]" = []


@dataclass(frozen=True)
class PlainImage:
    """An upright 8-bit RGB picture as PNG. Its name is made from its content: the same picture, a warm node cache."""

    content: bytes
    name: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodeLimits:
    """What one picture may take: pixels, processor seconds, bytes of memory."""

    max_pixels: int
    cpu_s: float
    memory: int

    @classmethod
    def of_pixels(cls, max_pixels: int) -> "DecodeLimits":
        """More than any honest picture of that size takes; at 49 million pixels that was 6 s and 1.2 GB (WebP)."""
        return cls(max_pixels, 5 + 0.2e-6 * max_pixels, 500_000_000 + 30 * max_pixels)

    @property
    def deadline_s(self) -> float:
        """By the clock, on a machine that has other things to do."""
        return 2 * self.cpu_s


async def make_plain(content: bytes, limits: DecodeLimits, field: str) -> PlainImage:
    """Raises JobError for what is no picture, damaged, too large or too small, or takes more than `limits`."""
    try:
        with _decoder() as child:
            async with asyncio.timeout(limits.deadline_s):
                return await asyncio.to_thread(_ask, child, content, limits, field)
    except TimeoutError:
        raise _too_slow(limits.deadline_s, field) from None


@contextlib.contextmanager
def _decoder() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that is ready, since its imports take longer than most decodes; kept once it has answered, else killed.

    The thread that waits for its answer notices that, and reaps it.
    """
    child = next((child for child in _taken() if child.poll() is None), None) or _start()
    has_answered = False
    try:
        yield child
        has_answered = True
    except JobError:
        has_answered = True
        raise
    finally:
        if has_answered and len(_ready) < KEPT:
            _ready.append(child)
        else:
            signal_group(child, signal.SIGKILL)


def _taken() -> "Iterator[subprocess.Popen[bytes]]":
    while _ready:
        yield _ready.pop()


def _start() -> "subprocess.Popen[bytes]":
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return start_child(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=variables)


def _ask(child: "subprocess.Popen[bytes]", content: bytes, limits: DecodeLimits, field: str) -> PlainImage:
    assert child.stdin is not None
    assert child.stdout is not None
    task = {"field": field, "size": len(content), **asdict(limits)}
    try:
        child.stdin.write(json.dumps(task).encode() + b"\n")
        child.stdin.write(content)
        child.stdin.flush()
        head = json.loads(child.stdout.readline())
        png = child.stdout.read(head.get("size", 0))
        if len(png) < head.get("size", 0):
            raise EOFError
    except (OSError, ValueError, EOFError):
        end_child(child)
        with contextlib.suppress(OSError), child:  # closes its pipes
            head, png = {"ended": child.returncode}, b""
    if "ended" in head:
        raise _end_of(head["ended"], limits, field)
    if "code" in head:
        raise JobError(head["code"], head["sentence"], field)
    name = f"wan_relay_{hashlib.sha256(png).hexdigest()[:24]}.png"
    return PlainImage(png, name, tuple(head["warnings"]))


def _end_of(code: int, limits: DecodeLimits, field: str) -> Exception:
    """What it means that a decoder ended without an answer; `code` is negative for a signal."""
    if code == -signal.SIGXCPU:
        return _too_slow(limits.cpu_s, field)
    if code == -signal.SIGKILL:  # by the kernel, for want of memory
        sentence = f"decoding {field} takes more than {limits.memory / 1e6:.0f} MB of memory"
        return JobError("IMAGE_TOO_LARGE", sentence, field)
    if code < 0:
        return JobError("INVALID_IMAGE", f"{field} is truncated or damaged", field)
    return RuntimeError(f"the process that decodes images ended with exit code {code}")


def _too_slow(seconds: float, field: str) -> JobError:
    return JobError("INVALID_IMAGE", f"decoding {field} took more than {seconds:g} s", field)
