"""The sha256 of model files: read once, while the worker has nothing else to do, and kept for the next worker.

A file is known by its name, inode, size and time of change, so one that was replaced is another. In Hugging Face's
caches and in the folder of downloaded LoRAs a file's name is its sha256 already.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

CHUNK = 4 * 1024 * 1024
MAX_KEPT = 2000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelHashes:
    """`want` files, whose sha256 `known` then says some time; nothing is read while somebody is in `paused`, and
    nothing at all unless it `reads`.

    `file` is shared by the workers of a volume, each of which replaces it whole: what one of two writes is lost at
    worst, and read again.
    """

    def __init__(self, file: Path, downloaded: Path, reads: bool) -> None:
        self._file = file
        self._downloaded = downloaded
        self._reads = reads
        self._known: dict[str, str] = {}
        self._wanted: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._may_read = threading.Event()
        self._may_read.set()
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        self._may_read.clear()
        try:
            yield
        finally:
            self._may_read.set()

    def stop(self) -> None:
        self._is_stopped = True
        self._may_read.set()
        if self._thread is not None:
            self._thread.join(5)

    def known(self, paths: Iterable[Path]) -> dict[Path, str]:
        """path -> sha256 of those that are known."""
        keys = {path: key for path in paths if (key := self._key(path))}
        named = {path: sha256 for path in keys if (sha256 := self._by_name(path))}
        if any(path not in named and key not in self._known for path, key in keys.items()):
            self._known.update({key: sha256 for key, sha256 in self._kept().items() if key not in self._known})
        return named | {path: self._known[key] for path, key in keys.items() if key in self._known}

    def want(self, paths: Iterable[Path]) -> None:
        """Returns at once."""
        if not self._reads:
            return
        with self._lock:
            self._wanted |= {key: path for path in paths if (key := self._key(path)) and key not in self._known}
            if self._wanted and self._thread is None and not self._is_stopped:
                self._thread = threading.Thread(target=self._run, name="model-hashes", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._wanted or self._is_stopped:
                    self._thread = None
                    return
                key, path = next(iter(self._wanted.items()))
            try:
                sha256 = self._read(path)
                if sha256 and self._key(path) == key:
                    self._keep(key, sha256)
            except OSError as error:
                print(f"model hashes | {path.name}: {error.strerror}", file=sys.stderr, flush=True)
            with self._lock:
                del self._wanted[key]

    def _read(self, path: Path) -> str | None:
        """None when stopped."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
        with open(path, "rb", buffering=0) as file:
            while True:
                self._may_read.wait()
                if self._is_stopped:
                    return None
                count = file.readinto(buffer)
                if not count:
                    return digest.hexdigest()
                digest.update(buffer[:count])

    def _by_name(self, path: Path) -> str | None:
        target = Path(os.path.realpath(path))
        is_blob = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
        is_downloaded = target.parent == Path(os.path.realpath(self._downloaded))
        name = target.name if is_blob else target.stem if is_downloaded else ""
        return name if _SHA256.fullmatch(name) else None

    @staticmethod
    def _key(path: Path) -> str | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        return f"{os.path.basename(os.path.realpath(path))} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"

    def _kept(self) -> dict[str, str]:
        try:
            content = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        pairs = content.items() if isinstance(content, dict) else ()
        return {key: value for key, value in pairs if isinstance(value, str) and _SHA256.fullmatch(value)}

    def _keep(self, key: str, sha256: str) -> None:
        self._known[key] = sha256
        everything = {name: value for name, value in self._kept().items() if name != key} | {key: sha256}
        everything = dict(list(everything.items())[-MAX_KEPT:])
        partial = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(everything, indent=0), encoding="utf-8")
            os.replace(partial, self._file)
        except OSError as error:
            print(f"model hashes | {self._file.name}: {error.strerror}", file=sys.stderr, flush=True)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
