"""Starts ComfyUI without what no bundled workflow asks for: `python -P lean_boot.py /comfyui/main.py [arguments]`.

Two thirds of a start are imports. Core's extra nodes (a hundred files, and the libraries behind them) are left
out, since the workflows need only core's own nodes and this pack's; and a few heavy libraries that ComfyUI imports at
once and uses seldom, or never, load at their first use. Nothing of ComfyUI is changed on disk.
"""

import importlib.abc
import runpy
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

LAZY = frozenset(
    {
        "kornia",
        "scipy.integrate",
        "scipy.ndimage",
        "scipy.stats",
        "torch._dynamo",
        "torchvision",
        "torchvision.datasets",
        "torchvision.models",
        "torchvision.ops",
    }
)


async def no_extra_nodes() -> list[str]:
    """In place of nodes.init_builtin_extra_nodes: no import failed."""
    return []


class _WithoutExtras(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if not hasattr(module, "init_builtin_extra_nodes"):
            raise ImportError("this ComfyUI loads its extra nodes another way")
        module.init_builtin_extra_nodes = no_extra_nodes  # type: ignore[attr-defined]


class LazyModule(ModuleType):
    """Runs its code when an attribute is first missed.

    Unlike the standard library's lazy module it keeps still when someone only looks at `__file__`, as `inspect` does
    with every module, and other threads wait until it is whole.
    """

    def __init__(self, spec: ModuleSpec, loader: importlib.abc.Loader) -> None:
        super().__init__(spec.name)
        self.__dict__.update(_pending=loader, _lock=threading.RLock())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__version__", "__all__"):
            raise AttributeError(name)
        load(self)
        return getattr(self, name)


def load(module: LazyModule) -> None:
    """Runs the module's code, unless it has run. Raises AttributeError inside of its own run, as a half-run module."""
    with module.__dict__["_lock"]:
        loader = module.__dict__["_pending"]
        if loader is None:
            if type(module) is LazyModule:
                raise AttributeError(f"module {module.__name__} is not whole yet")
            return
        module.__dict__["_pending"] = None
        try:
            loader.exec_module(module)
        except BaseException:
            module.__dict__["_pending"] = loader
            raise
        module.__class__ = ModuleType  # type: ignore[assignment]


class _Lazily(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LazyModule(spec, self._loader)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing yet."""


class LeanFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition(".")[0])
        if type(parent) is LazyModule and parent.__dict__["_pending"] is not None:
            load(parent)  # a package runs before its parts
        if name != "nodes" and name not in LAZY:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithoutExtras(spec.loader) if name == "nodes" else _Lazily(spec.loader)
        return spec


def main() -> None:
    script = Path(sys.argv[1])
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(script.parent))
    sys.meta_path.insert(0, LeanFinder())
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
