"""Child processes that end with us, and how a command of dev.py ends: with an exit code and one sentence."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ..service.child_process import end_child, start_child


class DevError(Exception):
    """What went wrong, as one sentence for the person at the terminal."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def last(text: str) -> str:
    return text.splitlines()[-1].strip() if text else "no message"


def run_command(command: Callable[[], None]) -> int:
    """The exit code of a command, and what ended it as a sentence on standard error."""
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    try:
        command()
    except DevError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    return 0


def stop(signum: int, _: Any) -> NoReturn:
    raise SystemExit(128 + signum)


@contextlib.contextmanager
def child(command: list[Any], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own; it and everything in its process group are ended on the way out."""
    process = start_child(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        end_child(process, grace_s=5)


def output_of(command: list[Any], timeout_s: float, **options: Any) -> tuple[int, str]:
    """(exit code, standard error) of a command whose standard output goes to our standard error, shown as it comes.

    A command that takes longer than `timeout_s` seconds is ended, and counts as exit code 124.
    """
    with child(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, **options) as process:
        try:
            errors = process.communicate(timeout=timeout_s)[1]
        except subprocess.TimeoutExpired:
            return 124, f"no end after {timeout_s:.0f} seconds"
        return process.returncode, errors.decode(errors="replace").strip()


def become(command: list[Any], variables: dict[str, str]) -> NoReturn:
    """Replace this process by another program, so that signals and the terminal are that program's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], [str(part) for part in command], os.environ | variables)
