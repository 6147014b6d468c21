"""Modules that load at their first use, and ComfyUI without its extra nodes."""

import importlib
import importlib.util
import inspect
import sys
import threading
from types import ModuleType

import pytest
from wan_relay.service.worker.comfyui import lean_boot


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A package `heavy_thing` with a part, and a `broken_thing`; both lazy."""
    (tmp_path / "heavy_thing").mkdir()
    (tmp_path / "heavy_thing" / "__init__.py").write_text(
        "import time\ntime.sleep(0.2)\nfrom . import part\nvalue = part.value + 1\n__version__ = '3'\n"
    )
    (tmp_path / "heavy_thing" / "part.py").write_text("value = 1\n")
    (tmp_path / "broken_thing.py").write_text("raise OSError('no library')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(lean_boot, "LAZY", {"heavy_thing", "broken_thing"})
    finder = lean_boot.LeanFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in ("heavy_thing", "heavy_thing.part", "broken_thing"):
            sys.modules.pop(name, None)


def is_loaded(module: ModuleType) -> bool:
    return "value" in vars(module)


def test_module_runs_at_its_first_use_only(packages):
    module = importlib.import_module("heavy_thing")
    assert module.__file__.endswith("__init__.py")
    assert not hasattr(module, "__wrapped__")
    inspect.getmodule(inspect.currentframe())
    assert not is_loaded(module)
    assert module.value == 2
    assert type(module) is ModuleType
    assert module.part.value == 1
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


def test_part_of_a_package_runs_after_the_package(packages):
    importlib.import_module("heavy_thing")
    part = importlib.import_module("heavy_thing.part")
    assert is_loaded(sys.modules["heavy_thing"])
    assert part.value == 1


def test_threads_wait_until_the_module_is_whole(packages):
    module = importlib.import_module("heavy_thing")
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(getattr(module, "value", None))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [2, 2, 2, 2]


def test_module_that_fails_says_so_every_time(packages):
    module = importlib.import_module("broken_thing")
    for _ in range(2):
        with pytest.raises(OSError, match="no library"):
            module.value  # noqa: B018


def test_extra_nodes_are_left_out(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nodes.py").write_text("async def init_builtin_extra_nodes():\n    raise SystemError\n")
    spec = lean_boot.LeanFinder().find_spec("nodes", [str(tmp_path)])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.init_builtin_extra_nodes is lean_boot.no_extra_nodes
    (tmp_path / "nodes.py").write_text("")
    importlib.invalidate_caches()
    spec = lean_boot.LeanFinder().find_spec("nodes", [str(tmp_path)])
    with pytest.raises(ImportError, match="another way"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
