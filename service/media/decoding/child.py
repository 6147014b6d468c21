"""Decodes pictures for the worker: `python -m service.media.decoding.child`, started by plain_image.py.

For each picture, on standard input: a line of JSON ({"field", "size", "max_pixels", "cpu_s", "memory"}), `size` bytes.
On standard output: a line of JSON ({"size", "warnings"} or {"code", "sentence"} or {"ended"}), the PNG's `size` bytes.

Each picture has a fork of this process, with limits of its own: it starts in milliseconds, since all is imported, and
takes with it what a picture did to its memory. When the worker goes away the input ends, and so does this process.
"""

import contextlib
import json
import math
import os
import resource
import sys
from typing import Any, NoReturn

from PIL import Image

from ...child_process import die_with_parent
from ...contract.errors import JobError
from .picture import decode


def main() -> None:
    Image.preinit()  # what the first picture would import, in each fork again
    while line := sys.stdin.buffer.readline():
        task = json.loads(line)
        content = sys.stdin.buffer.read(task["size"])
        own = os.getpid()
        fork = os.fork()
        if not fork:
            die_with_parent(own)
            _answer_and_end(task, content)
        del content
        code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        if code:
            _send({"ended": code})


def _answer_and_end(task: dict[str, Any], content: bytes) -> NoReturn:
    code = 1
    try:
        _limit_resources(math.ceil(task["cpu_s"]), task["memory"])
        # What C libraries say about a damaged file, as often as they like.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        Image.MAX_IMAGE_PIXELS = task["max_pixels"]  # WebP makes its canvas while it is opened
        head, png = _answer(task, content)
        _limit_resources(resource.RLIM_INFINITY, resource.RLIM_INFINITY)  # an answer that is begun is finished
        _send(head, png)
        code = 0
    finally:
        os._exit(code)


def _answer(task: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    field = task["field"]
    try:
        decoded = decode(content, task["max_pixels"], field)
        return {"size": len(decoded.png), "warnings": decoded.warnings}, decoded.png
    except JobError as error:
        return {"code": error.code, "sentence": error.sentence}, b""
    except MemoryError:
        sentence = f"decoding {field} takes more than {task['memory'] / 1e6:.0f} MB of memory"
        return {"code": "IMAGE_TOO_LARGE", "sentence": sentence}, b""


def _limit_resources(cpu_s: int, memory: int) -> None:
    """Processor seconds and bytes of address space (macOS knows no such limit); never a core file."""
    for what, soft in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (soft, hard))


def _send(head: dict[str, Any], png: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.write(png)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
