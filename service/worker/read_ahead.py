"""Model files into the page cache before they are asked for, in the order of use.

A network volume reads a few hundred megabytes a second and a cold job needs 35 GB: reading is the cold
start. ComfyUI needs seconds to boot; the disk should not rest meanwhile.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

CHUNK = 16 * 1024 * 1024
RESERVE = 4 * 1024**3


def available_memory() -> int:
    """Bytes that nobody needs, page cache counted as free: of the machine, and of the container if it is less."""
    available = _meminfo("MemAvailable")
    for folder, limit_name, usage_name, cache_name in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        try:
            limit = Path(folder, limit_name).read_text().strip()
            usage = int(Path(folder, usage_name).read_text())
            facts = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit.isdecimal() and int(limit) < 1 << 60:
            available = min(available, int(limit) - usage + int(facts.get(cache_name, 0)))
    return available


def _meminfo(name: str) -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)


class ReadAhead:
    """A thread that reads files one after the other, never more than what was free beyond `reserve`."""

    def __init__(
        self, paths: Iterable[Path], free: Callable[[], int] = available_memory, reserve: int = RESERVE
    ) -> None:
        self._paths = list(paths)
        self._free = free
        self._reserve = reserve
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self.read_bytes: dict[Path, int] = {}

    def start(self) -> "ReadAhead":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def join(self, timeout_s: float) -> bool:
        """True once every file was read, or given up."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        for path in self._paths:
            try:
                self._read(path)
            except OSError as error:
                print(f"read-ahead | {path.name}: {error.strerror}", file=sys.stderr)

    def _read(self, path: Path) -> None:
        """Plain reads into one buffer: a network file system does not honour an advice for whole files."""
        buffer = memoryview(bytearray(CHUNK))
        with open(path, "rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            done = 0
            # What was read still counts as free, hence the sum.
            while not self._stop.is_set() and self._free() - sum(self.read_bytes.values()) >= self._reserve + CHUNK:
                count = file.readinto(buffer)
                if not count:
                    break
                done += count
                self.read_bytes[path] = done
