"""Files that appear under their name when they are complete, or not at all, and never over another file."""

import errno
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...rules.errors import VideoNotSaved

_ABANDONED_S = 3600.0  # since the last byte was written: no save pauses that long


def save_whole(folder: Path, name_of: Callable[[int], str], first_number: int, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a hidden file in `folder`, then give it the first free name of `name_of(first_number)` onwards.

    The name appears when the content is on the disk; two processes that save at once get two names. Whatever `write`
    raises, a cancelled prompt (a BaseException) included, leaves no file behind; what a killed process left, the next
    save after an hour removes. Raises VideoNotSaved for any OSError.
    """
    unfinished = folder / f".{uuid.uuid4().hex}.unfinished"
    try:
        _remove_abandoned(folder)
        write(unfinished)
        _flush_to_disk(unfinished)
        return _publish(unfinished, folder, name_of, first_number)
    except OSError as error:
        raise not_saved(folder.name, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def whole_or_none(*saves: Callable[[], Path]) -> list[Path]:
    """The files that `saves` make, one after the other; whatever one of them raises, those before it are removed."""
    paths: list[Path] = []
    try:
        for save in saves:
            paths.append(save())
    except BaseException:
        for path in paths:
            with suppress(OSError):  # what stopped the saving is what is told
                path.unlink()
        raise
    return paths


def not_saved(folder_name: str, error: OSError) -> VideoNotSaved:
    return VideoNotSaved(f"The video was not saved in {folder_name}: {_reason(error)}; no file was left.")


def _remove_abandoned(folder: Path) -> None:
    for file in folder.glob(f".{'[0-9a-f]' * 32}.unfinished"):
        with suppress(OSError):  # another process may remove it, or own it
            if time.time() - file.stat().st_mtime > _ABANDONED_S:
                file.unlink()


def _publish(unfinished: Path, folder: Path, name_of: Callable[[int], str], number: int) -> Path:
    while True:
        path = folder / name_of(number)
        try:
            _rename_to_new(unfinished, path)
        except FileExistsError:
            number += 1
            continue
        if os.name != "nt":
            _flush_to_disk(folder)
        return path


def _rename_to_new(source: Path, target: Path) -> None:
    """Rename, or raise FileExistsError where the name is taken."""
    if os.name == "nt":
        os.rename(source, target)  # refuses to replace, on Windows only
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first, then fill it
        target.open("xb").close()
        try:
            os.replace(source, target)
        except OSError:
            target.unlink()
            raise


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    if error.errno == errno.EFBIG:
        return "the file is larger than this system allows"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder cannot be written to"
    return error.strerror or type(error).__name__
