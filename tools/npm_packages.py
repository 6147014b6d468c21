"""npm packages by a lock file: installed once, in a folder of the cache that is named by the lock's content."""

from __future__ import annotations

import shutil
from pathlib import Path

from .environment import locked, short_hash
from .processes import DevError, last, output_of

INSTALL_S = 600
WRITTEN_LAST = Path("node_modules", ".package-lock.json")


def has_npm() -> bool:
    return bool(shutil.which("npm") and shutil.which("node"))


def installed_packages(project: Path, caches: Path, name: str) -> Path:
    """The folder whose `node_modules` has the packages of `project`, `NAME-<hash>` in the cache.

    Raises DevError where npm cannot install them.
    """
    lock = project / "package-lock.json"
    folder = caches / f"{name}-{short_hash(lock.read_text())}"
    with locked(caches / f"set-up-{name}.lock"):
        if not (folder / WRITTEN_LAST).exists():
            folder.mkdir(exist_ok=True)
            for path in (lock, project / "package.json"):
                shutil.copy(path, folder)
            command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", folder]
            code, errors = output_of(command, timeout_s=INSTALL_S)
            if code:
                raise DevError(f"The packages of {lock} cannot be installed: {last(errors)}")
    return folder
