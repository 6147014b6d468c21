"""A program as a child process: in a session of its own, dead when this process is, ended with all that it started."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REAP_S = 10.0

# Runs before the program in the child: the kernel ends it when its parent dies, even by SIGKILL.
DIE_WITH_PARENT = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 9)
except AttributeError:
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def start_child(command: Sequence[str | Path], **options: Any) -> "subprocess.Popen[Any]":
    """Starts a program; `options` are those of subprocess.Popen.

    On Linux the child's life is bound to the thread that calls this: call it from the main thread.
    """
    watched = [sys.executable, "-S", "-E", "-c", DIE_WITH_PARENT, str(os.getpid())]
    return subprocess.Popen([*watched, *map(str, command)], start_new_session=True, **options)


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
