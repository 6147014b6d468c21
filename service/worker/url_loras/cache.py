"""The folder of downloaded LoRAs: named by their content, found by their URL, shared by the workers of a volume.

    files/<sha256>.safetensors    what ComfyUI lists among its LoRAs
    urls/<sha256 of a URL>.json   which of them a URL led to, and the server's mark of that version
    partial/                      what is being downloaded
    lock                          whoever looks for a file, names one or removes one is alone

Locks (flock) say what is in use, and end with their process: a shared one on a file that a job uses or downloads, an
exclusive one on a URL that is asked for. Nothing that is locked is removed.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SUFFIX = ".safetensors"
LOCK_POLL_S = 0.2


class Known(BaseModel):
    """The file that a URL led to when it was last asked; `etag` and `modified` are its server's, `sha256` is ours."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_bytes: int
    etag: str = ""
    modified: str = ""


class CacheFault(Exception):
    """The folder cannot be read or written; `reason` is the system's."""

    def __init__(self, fault: OSError) -> None:
        super().__init__(repr(fault))
        self.reason = fault.strerror or "input/output error"


class HeldFile:
    """A file of the cache that stays until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._file = os.fdopen(descriptor, "rb", buffering=0)

    def release(self) -> None:
        self._file.close()


class Entry:
    """What is known of one URL, in the hands of one job at a time."""

    def __init__(self, cache: "LoraCache", descriptor: int) -> None:
        self._cache = cache
        self._descriptor = descriptor

    def known(self) -> Known | None:
        try:
            return Known.model_validate_json(os.pread(self._descriptor, 10_000, 0))
        except ValidationError:
            return None

    def hold(self) -> HeldFile | None:
        """The file of the last time, if it is still there."""
        known = self.known()
        held = self._cache.hold(known.sha256, known.num_bytes) if known else None
        if held is not None:
            os.utime(self._descriptor)
        return held

    def remember(self, known: Known) -> None:
        content = known.model_dump_json().encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)


class LoraCache:
    """`max_bytes` may be passed for as long as jobs hold more than that; `min_free_bytes` of the disk are left."""

    def __init__(self, folder: Path, max_bytes: int, min_free_bytes: int = 0) -> None:
        self.files, self._urls, self._partial = (folder / name for name in ("files", "urls", "partial"))
        self._lock_file = folder / "lock"
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes

    def make_folders(self) -> None:
        for folder in (self.files, self._urls, self._partial):
            folder.mkdir(parents=True, exist_ok=True)

    @asynccontextmanager
    async def entry(self, url: str) -> AsyncIterator[Entry]:
        """Waits while another job, of any worker, asks for the same URL."""
        path = self._urls / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if _lock(descriptor, fcntl.LOCK_EX) and os.fstat(descriptor).st_nlink:
                    entry = Entry(self, descriptor)
                    try:
                        yield entry
                    finally:
                        if entry.known() is None:
                            path.unlink(missing_ok=True)
                    return
            finally:
                os.close(descriptor)
            await asyncio.sleep(LOCK_POLL_S)

    @contextmanager
    def partial(self) -> Iterator[BinaryIO]:
        """A new file to write into; it is gone at the end, unless `keep` took it."""
        path = self._partial / uuid.uuid4().hex
        with path.open("xb") as file:
            try:
                _lock(file.fileno(), fcntl.LOCK_SH)
                yield file
            finally:
                path.unlink(missing_ok=True)

    def keep(self, partial: BinaryIO, sha256: str) -> HeldFile:
        """The written file under its content's name, held."""
        partial.flush()
        with self._alone(), self._listed_anew():
            same = self._hold(sha256, os.fstat(partial.fileno()).st_size)
            if same is not None:
                return same
            path = self._path(sha256)
            os.replace(partial.name, path)
            return HeldFile(path, os.dup(partial.fileno()))  # the lock is both descriptors'

    def hold(self, sha256: str, num_bytes: int) -> HeldFile | None:
        """None for a file that is not there, or is not whole."""
        with self._alone(), self._listed_anew():
            return self._hold(sha256, num_bytes)

    def _hold(self, sha256: str, num_bytes: int) -> HeldFile | None:
        path = self._path(sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size != num_bytes:
            os.close(descriptor)
            return None
        _lock(descriptor, fcntl.LOCK_SH)
        return HeldFile(path, descriptor)

    def _path(self, sha256: str) -> Path:
        return self.files / f"{sha256}{SUFFIX}"

    def make_room(self, num_bytes: int = 0) -> None:
        """Removes files until so many bytes fit, first those whose URLs were asked for longest ago; and what a dead
        process left. Raises OSError where they do not fit the disk.
        """
        with self._alone():
            used = self._last_used()
            sizes = {path: path.stat().st_size for path in self.files.glob(f"*{SUFFIX}")}
            over = max(sum(sizes.values()) + num_bytes - self._max_bytes, -self._free_bytes(num_bytes))
            for path in sorted(sizes, key=lambda path: used.get(path.stem, 0.0)):
                if over <= 0:
                    break
                if _remove_if_free(path):
                    over -= sizes[path]
            for path in self._partial.iterdir():
                _remove_if_free(path)
        if num_bytes and self._free_bytes(num_bytes) < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _free_bytes(self, num_bytes: int) -> int:
        """Of the disk, once so many more are there."""
        return shutil.disk_usage(self.files).free - self._min_free_bytes - num_bytes

    def _last_used(self) -> dict[str, float]:
        """sha256 -> when one of its URLs was last asked for. Forgets URLs whose file is gone."""
        used: dict[str, float] = {}
        for path in self._urls.glob("*.json"):
            try:
                known, at = Known.model_validate_json(path.read_bytes()), path.stat().st_mtime
            except (OSError, ValidationError):
                continue
            if self._path(known.sha256).exists():
                used[known.sha256] = max(at, used.get(known.sha256, 0.0))
            else:
                _remove_if_free(path)
        return used

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock_file.open("wb") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _listed_anew(self) -> Iterator[None]:
        """ComfyUI lists a folder again when its time is another one than before. Times of some file systems are whole
        seconds, and another machine's file may come without a new one here: so it is set, a second on.
        """
        before = self.files.stat().st_mtime_ns
        yield
        with contextlib.suppress(OSError):
            os.utime(self.files, ns=(before, before + 10**9))


def _lock(descriptor: int, kind: int) -> bool:
    """False where somebody has it. A file system without locks has each at the first asking."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_if_free(path: Path) -> bool:
    """Whether it is gone: nobody holds it. Where there are no locks, nobody knows that, and it stays."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
