"""The files of jobs in ComfyUI's folders: named so that they are known, and removed."""

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..contract.errors import JobError
from .settings import Settings

OWN_NAME = "wan_relay_"


def check_disk(settings: Settings) -> None:
    """Raises JobError DISK_FULL."""
    folder = settings.run_directory
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < settings.min_free_disk_mb * 1_000_000:
        sentence = f"{free / 1e6:.0f} MB of disk are free, {settings.min_free_disk_mb} MB are needed"
        raise JobError("DISK_FULL", sentence, refresh_worker=True)


def remove_leftovers(settings: Settings) -> None:
    """What an interrupted save of an earlier job wrote after that job's own clean-up."""
    for folder in (settings.input_directory, settings.output_directory):
        for path in folder.glob(f"{OWN_NAME}*"):
            remove(path)


def content_of(folders: Iterable[Path]) -> set[Path]:
    """All that lies in these folders, at any depth; taken twice, the difference is what a job left."""
    return {path for folder in folders if folder.is_dir() for path in folder.rglob("*")}


def remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
