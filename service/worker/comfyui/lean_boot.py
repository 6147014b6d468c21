"""Starts ComfyUI without what no job asks for: `python -P lean_boot.py /comfyui/main.py [arguments]`.

Two thirds of a start are imports. Core's extra nodes (a hundred files, and the libraries behind them) are left
out, but for the few that a request can put into a workflow, which cost milliseconds; and the garbage collector rests,
since what imports make stays. Nothing of ComfyUI is changed on disk.
"""

import gc
import importlib.abc
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

# Core's file of nodes, and the kind of model without which no request asks for them; "" for one that costs nothing.
EXTRA_NODES = {
    "nodes_dataset.py": "",  # has Normalize Images
    "nodes_frame_interpolation.py": "",
    "nodes_upscale_model.py": "upscale_models",
}


async def few_extra_nodes() -> list[str]:
    """In place of nodes.init_builtin_extra_nodes: the files that could not be imported."""
    nodes: Any = sys.modules["nodes"]
    lists: Any = sys.modules["folder_paths"]
    folder = Path(nodes.__file__).parent / "comfy_extras"
    return [
        name
        for name, kind in EXTRA_NODES.items()
        if not kind or lists.get_filename_list(kind)
        if not await nodes.load_custom_node(str(folder / name), module_parent="comfy_extras")
    ]


class _LeanNodes(importlib.abc.Loader):
    """Loads core's `nodes`, the last of the large imports."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if not hasattr(module, "init_builtin_extra_nodes"):
            raise ImportError("this ComfyUI loads its extra nodes another way")
        module.init_builtin_extra_nodes = few_extra_nodes  # type: ignore[attr-defined]
        gc.enable()


class LeanFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "nodes":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LeanNodes(spec.loader)
        return spec


def main() -> None:
    script = Path(sys.argv[1])
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(script.parent))
    sys.meta_path.insert(0, LeanFinder())
    gc.disable()
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
