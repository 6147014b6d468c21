"""The scripts of `node/`, each a set of checks of one provider's JavaScript SDK, run as its users run it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from wan_relay.tools.npm_packages import installed_packages

SCRIPTS = Path(__file__).parent / "node"
RUN_S = 120


def sdk_packages() -> Path:
    """The providers' packages, `node_modules` in the cache. Raises DevError where npm cannot install them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wan-relay"
    cache.mkdir(parents=True, exist_ok=True)
    return installed_packages(SCRIPTS, cache, "sdks") / "node_modules"


class Node:
    """`node("fal.mjs", "check", **variables)`: what one check of a script prints as JSON, in its last line."""

    def __init__(self, packages: Path, folder: Path) -> None:
        self._folder = folder
        (folder / "node_modules").symlink_to(packages)

    def __call__(self, script: str, check: str, **variables: str) -> Any:
        return json.loads(self.run(SCRIPTS / script, check, **variables).splitlines()[-1])

    def run(self, script: Path, *arguments: str, folder: Path | None = None, **variables: str) -> str:
        """What the script prints, that runs in that folder."""
        copy = shutil.copy(script, self._folder)
        done = subprocess.run(
            ["node", copy, *arguments],
            env=os.environ | variables,
            cwd=folder or self._folder,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        assert done.returncode == 0, f"{script.name} {arguments}: {done.stderr[-3000:]}"
        return done.stdout
