"""The providers' JavaScript SDKs: installed once in the cache, and run as their users run them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from wan_relay.tools.environment import locked, short_hash

PROJECT = Path(__file__).parent / "node"
INSTALL_S = 300
RUN_S = 120


def installed_packages(caches: Path) -> Path:
    """The folder with `node_modules`, by the lock file's content. Raises RuntimeError where npm cannot install it."""
    lock = PROJECT / "package-lock.json"
    folder = caches / f"node-{short_hash(lock.read_text())}"
    with locked(caches / "set-up-node.lock"):
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            for path in (lock, PROJECT / "package.json"):
                shutil.copy(path, folder)
            install = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", folder]
            done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
            if done.returncode:
                raise RuntimeError(f"npm ci: {done.stderr[-500:]}")
            (folder / "complete").touch()
    return folder


class Node:
    """Runs the scripts of `node/`."""

    def __init__(self, packages: Path) -> None:
        self._variables = {**os.environ, "NODE_PACKAGES": str(packages)}

    def run(self, script: str, *arguments: str) -> Any:
        """What it told: the JSON after `TOLD`, in the last line."""
        done = subprocess.run(
            ["node", PROJECT / script, *arguments],
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1].removeprefix("TOLD "))
