"""A client's picture as a fresh PNG for ComfyUI, decoded in a process that can be ended.

Decoders are C libraries that work on strangers' bytes: a small file can hold them for minutes or take gigabytes, and no
thread can be stopped. So each picture has a process of its own, which ends at its deadline, at its limit of memory or
when the job is cancelled. The next one is started ahead, since its imports take longer than most decodes.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ..child_process import end_child, signal_group, start_child
from ..contract.errors import JobError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "service.media.decoding.child")
# What a Python needs to start; the worker's keys are not for a process that reads strangers' bytes.
VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
PAUSE_S = 0.5  # the job that the picture is for goes first

_waiting: "subprocess.Popen[bytes] | None" = None


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
    child = _take_child()
    try:
        return await asyncio.to_thread(_ask, child, content, limits, field)
    finally:
        if child.poll() is None:
            signal_group(child, signal.SIGKILL)  # the thread that waits for it reaps it
        asyncio.get_running_loop().call_later(PAUSE_S, _start_ahead)


def _take_child() -> "subprocess.Popen[bytes]":
    global _waiting
    child, _waiting = _waiting, None
    return child if child is not None and child.poll() is None else _start()


def _start_ahead() -> None:
    global _waiting
    if _waiting is None or _waiting.poll() is not None:
        with contextlib.suppress(OSError):
            _waiting = _start()


def _start() -> "subprocess.Popen[bytes]":
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return start_child(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=variables)


def _ask(child: "subprocess.Popen[bytes]", content: bytes, limits: DecodeLimits, field: str) -> PlainImage:
    task = json.dumps({"field": field, **asdict(limits)}).encode() + b"\n"
    with child:
        try:
            answer, _ = child.communicate(task + content, limits.deadline_s)
        except subprocess.TimeoutExpired:
            end_child(child)
            raise _too_slow(limits.deadline_s, field) from None
    if child.returncode:
        raise _end_of(child.returncode, limits, field)
    line, _, png = answer.partition(b"\n")
    head = json.loads(line)
    if "code" in head:
        raise JobError(head["code"], head["sentence"], field)
    name = f"wan_relay_{hashlib.sha256(png).hexdigest()[:24]}.png"
    return PlainImage(png, name, tuple(head["warnings"]))


def _end_of(code: int, limits: DecodeLimits, field: str) -> Exception:
    """What it means that the child ended without an answer."""
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
