"""Objects as files of one folder. A file is written under another name (`<name>#1`) and renamed when it is whole."""

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path

from obstore.store import LocalStore

from .object_store import StoreUnavailableError
from .obstore_backed import ObstoreBacked

_UNFINISHED = re.compile(r".+#\d+")


class LocalFolder(ObstoreBacked):
    """Made where it is missing, but only here: a folder that goes later, with its disk, is not made again elsewhere.

    Raises StoreUnavailableError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError("the object store's folder cannot be made") from error
        super().__init__(LocalStore(self._folder, automatic_cleanup=True), keeps_attributes=False)

    async def remove_leftovers(self, older_than_s: float) -> None:
        self._require()
        await asyncio.to_thread(remove_unfinished, self._folder, time.time() - older_than_s)

    def _require(self) -> None:
        if not self._folder.is_dir():
            raise StoreUnavailableError("the object store's folder is gone")


def remove_unfinished(folder: Path, before_s: float) -> None:
    """Unfinished files and empty folders that were last changed before that time (epoch seconds)."""
    for here, _, names in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # others may be at work in the folder
            is_old = os.stat(here).st_mtime < before_s
            for name in names:
                path = os.path.join(here, name)
                if _UNFINISHED.fullmatch(name) and os.stat(path).st_mtime < before_s:
                    os.unlink(path)
            if is_old and Path(here) != folder:
                os.rmdir(here)
