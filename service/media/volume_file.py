"""A file of the network volume, and none outside it."""

import os
import stat
from pathlib import Path

from ..contract.errors import JobError

# RunPod mounts one and the same volume under the first name in a serverless worker, under the second in a pod.
VOLUME_NAMES = ("/runpod-volume", "/workspace")


def read_from_volume(path: str, volume: Path, limit: int, field: str) -> bytes:
    """A regular file that is inside the volume after every link is followed. Raises JobError."""
    root = os.path.realpath(volume)
    try:
        target = os.path.realpath(_under_own_name(path, volume))
        if not path.startswith("/") or os.path.commonpath((root, target)) != root:
            sentence = f"{field} must be a file under the network volume, which is {volume} here"
            raise JobError("INVALID_PATH", sentence, field)
        descriptor = _open_beneath(root, os.path.relpath(target, root))
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


def _under_own_name(path: str, volume: Path) -> str:
    """The path as this worker has it, when it was written with one of the volume's other names.

    Unambiguous, because nothing outside `volume` can be meant.
    """
    for name in VOLUME_NAMES:
        if path.startswith(f"{name}/") and not Path(path).is_relative_to(volume):
            return f"{volume}{path.removeprefix(name)}"
    return path


def _open_beneath(root: str, relative: str) -> int:
    """Opens a path without links, step by step from the root, so that no folder that is meanwhile swapped for a link
    leads outside. Raises OSError.
    """
    *folders, name = relative.split(os.sep)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(folder, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
    finally:
        os.close(descriptor)
