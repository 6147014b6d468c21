"""The newest frontend of ComfyUI's graph editor, which people who keep ComfyUI current have, beside the pinned one."""

import sys
from pathlib import Path

from wan_relay.tools.environment import pip

NEWEST = "1.58.1"


def newest_front_end(cache: Path) -> Path:
    """The folder that ComfyUI serves with --front-end-root; installed below `cache` on first use."""
    package = cache / f"front-end-{NEWEST}"
    if not (package / "complete").exists():
        pip(Path(sys.executable), "install", "--no-deps", "--target", package, f"comfyui-frontend-package=={NEWEST}")
        (package / "complete").touch()
    return package / "comfyui_frontend_package" / "static"
