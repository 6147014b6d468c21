"""The operating system's scheduling of this process, which an encoder may not change.

SVT-AV1 that is run by root, as in most containers, gives the thread that opens it and all its own real-time priority 99
(Linux). It never takes that back, and every process that is started later inherits it: from then on one busy program
keeps all others on the machine from running.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

THREADS = "/proc/self/task"


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Every thread has the scheduling that it had, and those that the block started have the caller's."""
    before = _scheduling()
    usual = before.get(threading.get_native_id())
    try:
        yield
    finally:
        for thread, now in _scheduling().items():
            wanted = before.get(thread, usual)
            if wanted not in (None, now):
                with suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, wanted[0], os.sched_param(wanted[1]))


def _scheduling() -> dict[int, tuple[int, int]]:
    """Policy and priority of each thread; none where the system does not tell."""
    found = {}
    with suppress(OSError, AttributeError):
        for name in os.listdir(THREADS):
            with suppress(OSError):
                thread = int(name)
                found[thread] = (os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority)
    return found
