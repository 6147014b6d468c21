"""Ids of tasks: UUIDs of version 7 (RFC 9562), which sort by their time.

Among tasks of one moment the queue takes the smaller id first, and SQLite's moments are whole seconds long.
"""

import secrets
import threading
import time
import uuid

_lock = threading.Lock()
_last_ms = 0


def new_task_id() -> str:
    """Larger than every one before it in this process."""
    global _last_ms
    with _lock:
        _last_ms = max(_last_ms + 1, time.time_ns() // 1_000_000)
        milliseconds = _last_ms
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
