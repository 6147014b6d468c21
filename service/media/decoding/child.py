"""Decodes one picture and ends: `python -m service.media.decoding.child`, started by plain_image.py.

Standard input: a line of JSON ({"field", "max_pixels", "cpu_s", "memory"}), then the file's bytes to the end.
Standard output: a line of JSON ({"warnings"}, or {"code", "sentence"}), then the PNG's bytes.
It may wait long for its input; when its parent goes away, the input ends and so does it.
"""

import contextlib
import json
import math
import os
import resource
import sys
from typing import Any

from PIL import Image

from ...contract.errors import JobError
from .picture import decode


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return
    task = json.loads(line)
    _limit_resources(task["cpu_s"], task["memory"])
    # What C libraries say about a damaged file, as often as they like.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    Image.MAX_IMAGE_PIXELS = task["max_pixels"]  # WebP makes its canvas while it is opened
    head, png = _answer(task)
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.write(png)
    sys.stdout.buffer.flush()
    os._exit(0)  # the worker waits for the end: no tidying up


def _answer(task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    field = task["field"]
    try:
        decoded = decode(sys.stdin.buffer.read(), task["max_pixels"], field)
        return {"warnings": decoded.warnings}, decoded.png
    except JobError as error:
        return {"code": error.code, "sentence": error.sentence}, b""
    except MemoryError:
        sentence = f"decoding {field} takes more than {task['memory'] / 1e6:.0f} MB of memory"
        return {"code": "IMAGE_TOO_LARGE", "sentence": sentence}, b""


def _limit_resources(cpu_s: float, memory: int) -> None:
    """Processor seconds and bytes of address space (macOS knows no such limit); and no core file."""
    seconds = math.ceil(cpu_s)
    for what, limit in (
        (resource.RLIMIT_CPU, (seconds, seconds + 1)),
        (resource.RLIMIT_AS, (memory, memory)),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, limit)


if __name__ == "__main__":
    main()
