"""What the gateway says of itself: one line of JSON on standard error for each event.

A line holds ids, names, codes, numbers and sentences of this project; never a prompt, a picture, a key or a URL.
"""

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

MAX_TEXT = 300
_LOCK = threading.Lock()
_PASSWORD = re.compile(r"(://)[^/\s@]*@")


def note(event: str, **facts: Any) -> None:
    """Something that is as it should be."""
    _write("info", event, facts)


def warn(event: str, **facts: Any) -> None:
    """Something that an operator should know of."""
    _write("warning", event, facts)


def _write(level: str, event: str, facts: dict[str, Any]) -> None:
    line: dict[str, Any] = {"time": round(time.time(), 3), "level": level, "event": event}
    line |= {name: _short(value) for name, value in facts.items() if value is not None}
    with _LOCK:
        print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    return _PASSWORD.sub(r"\1", value)[:MAX_TEXT] if isinstance(value, str) else value


def trace(error: BaseException) -> str:
    """Where an error came from, without its words, which may be a client's: `ValueError at desk.py:80 < api.py:301`."""
    places: list[str] = []
    step = error.__traceback__
    while step is not None:
        places.append(f"{step.tb_frame.f_code.co_filename.rpartition('/')[2]}:{step.tb_lineno}")
        step = step.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places[-6:]))}"


class LibraryLines(logging.Handler):
    """What libraries log, as lines of the journal, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage().partition("\n")[0]
        _write(
            record.levelname.lower(), "library", {"name": record.name, "text": text, "error": error and trace(error)}
        )


def take_over_libraries(names: Iterable[str] = ("dbos", "uvicorn", "asyncio", "obstore")) -> None:
    """From now on they, and this package's own loggers, write into the journal."""
    for name in (*names, __name__.partition(".")[0]):
        logger = logging.getLogger(name)
        logger.handlers[:] = [LibraryLines()]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
