"""A file of the network volume, and none outside it."""

import os
import stat
from pathlib import Path

from ..contract.errors import JobError


def read_from_volume(path: str, volume: Path, limit: int, field: str) -> bytes:
    """A regular file that is inside the volume after every link is followed."""
    root = os.path.realpath(volume)
    target = os.path.realpath(path)
    if not path.startswith("/") or os.path.commonpath((root, target)) != root:
        raise JobError("INVALID_PATH", f"{field} must be a file under the network volume", field)
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise JobError("FILE_NOT_FOUND", f"{field} names no file on the network volume", field) from None
    except OSError:
        raise JobError("INVALID_PATH", f"{field} cannot be opened", field) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise JobError("INVALID_PATH", f"{field} must be a regular file", field)
        if facts.st_size > limit:
            raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit + 1)
    except OSError:
        raise JobError("INVALID_PATH", f"{field} cannot be read", field) from None
    finally:
        os.close(descriptor)
