#!/usr/bin/env python3
"""Sets the development environment up, then runs: demo | test | serve | worker | bench | env | run."""

import runpy
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def register_package() -> None:
    """Make the checkout importable as `wan_relay` without running its __init__.py or putting it on sys.path.

    The checkout holds a `nodes` folder, and ComfyUI imports its own `nodes.py` by that name.
    """
    package = types.ModuleType("wan_relay")
    package.__path__ = [str(ROOT)]
    sys.modules["wan_relay"] = package


def use_comfyui(comfyui: Path) -> None:
    """Put ComfyUI on sys.path and set it to the CPU; must come before anything imports `comfy`."""
    sys.path.insert(0, str(comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


if __name__ == "__main__" and sys.argv[1:2] == ["run"]:
    import os

    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    register_package()
    use_comfyui(Path(os.environ["COMFYUI_PATH"]))
    sys.argv = sys.argv[2:]
    runpy.run_module("wan_relay." + sys.argv[0], run_name="__main__", alter_sys=True)
