"""A program as a child process: in a session of its own, dead when this process is, ended with all that it started.

This file is also what runs first in the child, before the program takes its place.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
REAP_S = 10.0


def start_child(command: Sequence[str | Path], **options: Any) -> "subprocess.Popen[Any]":
    """Starts a program; `options` are those of subprocess.Popen.

    On Linux the child's life is bound to the thread that calls this: call it from the main thread.
    """
    first = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    return subprocess.Popen([*first, *map(str, command)], start_new_session=True, **options)


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, even by SIGKILL (Linux). Ends it if that was already."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def signal_group(process: "subprocess.Popen[Any]", sign: signal.Signals) -> None:
    """Sends a signal to the child and to all that it started; returns at once, also when they are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, sign)


def end_child(process: "subprocess.Popen[Any]", grace_s: float = 0.0) -> None:
    """Ends the child and all that it started: politely for `grace_s` seconds, then for good. Waits for the child."""
    if grace_s > 0:
        signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    signal_group(process, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(REAP_S)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
