#!/usr/bin/env python3
"""The project's one command: sets the environment up on first use, then does what it is asked.

    python3 dev.py demo [--image FILE] ...    one image to an mp4, through a ComfyUI of its own
    python3 dev.py test [pytest arguments]    format, lint, types, then all tests or those named
    python3 dev.py serve [--port 8188]        ComfyUI with this pack and the toy models, for the graph editor
    python3 dev.py worker [--port 8000]       the RunPod worker on a local RunPod platform
    python3 dev.py gateway [--port 8100]      the HTTP gateway with one executor, for several providers' clients
    python3 dev.py bench [NAME]               the benchmarks in bench/
    python3 dev.py env                        where everything lies, as one JSON object
    python3 dev.py run MODULE [arguments]     one module of this checkout, such as `run bench.relay`

Python's standard library is all it needs. The commands are in tools/; what they run in, tools/environment.py sets up.
"""

from __future__ import annotations

import importlib.util
import os
import platform
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
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]


def use_comfyui(comfyui: Path) -> None:
    """Put ComfyUI on sys.path and set it to the CPU; must come before anything imports `comfy`.

    WAN_RELAY_GPU=1 leaves it the GPU, for the benchmarks that measure one.
    """
    sys.path.insert(0, str(comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = os.environ.get("WAN_RELAY_GPU", "") != "1"


def run_module(name: str, *arguments: str) -> None:
    use_comfyui(Path(os.environ["COMFYUI_PATH"]))
    sys.argv = [name, *arguments]
    runpy.run_module("wan_relay." + name, run_name="__main__", alter_sys=True)


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (this script is what an older Python is started on)
        print(f"dev.py needs Python 3.11 or newer, and this is {platform.python_version()}.", file=sys.stderr)
        return 1
    register_package()
    is_inside = "COMFYUI_PATH" in os.environ and importlib.util.find_spec("torch")
    if is_inside and arguments[:1] == ["run"] and len(arguments) > 1:
        run_module(*arguments[1:])
        return 0
    from wan_relay.tools.command_line import main as command_line

    return command_line(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
