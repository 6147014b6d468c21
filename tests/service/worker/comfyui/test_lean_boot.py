"""ComfyUI without its extra nodes, and with imports that are otherwise Python's own."""

import asyncio
import gc
import importlib
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
from wan_relay.service.worker.comfyui import lean_boot

NODES = """
loaded = []
async def init_builtin_extra_nodes():
    raise SystemError
async def load_custom_node(path, module_parent):
    loaded.append((path, module_parent))
    return {is_loaded}
"""


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize(
    ("upscalers", "names"),
    [
        ([], ["nodes_dataset.py", "nodes_frame_interpolation.py"]),
        (["x2.pth"], ["nodes_dataset.py", "nodes_frame_interpolation.py", "nodes_upscale_model.py"]),
    ],
)
def test_only_the_extra_nodes_that_a_request_can_need_are_loaded(tmp_path, monkeypatch, upscalers, names, is_loaded):
    lists = types.SimpleNamespace(get_filename_list={"upscale_models": upscalers}.__getitem__)
    monkeypatch.setitem(sys.modules, "folder_paths", lists)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nodes.py").write_text(NODES.format(is_loaded=is_loaded))
    spec = lean_boot.LeanFinder().find_spec("nodes", [str(tmp_path)])
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nodes", module)
    spec.loader.exec_module(module)
    failed = asyncio.run(module.init_builtin_extra_nodes())
    assert module.loaded == [(str(tmp_path / "comfy_extras" / name), "comfy_extras") for name in names]
    assert failed == ([] if is_loaded else names)
    (tmp_path / "nodes.py").write_text("")
    importlib.invalidate_caches()
    spec = lean_boot.LeanFinder().find_spec("nodes", [str(tmp_path)])
    with pytest.raises(ImportError, match="another way"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def booted(folder: Path) -> list[str]:
    """What `main.py` of this folder prints, started lean."""
    command = [sys.executable, "-P", lean_boot.__file__, str(folder / "main.py"), "--port", "1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Each library is half imported, by a thread of its own, when it looks into the other one.
LIBRARY = """
import sys
sys.modules['__main__'].both_import.wait()
import {other}
is_whole = hasattr({other}, 'value')
value = 1
"""
MAIN = """
import importlib, sys, threading
both_import = threading.Barrier(2, timeout=30)
def use(name):
    sys.stdout.write(f"{name} {importlib.import_module(name).value}\\n")  # print writes the line's parts one by one
threads = [threading.Thread(target=use, args=(name,)) for name in ("kornia", "torchvision")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_import_two_libraries_of_a_cycle(tmp_path):
    (tmp_path / "kornia.py").write_text(LIBRARY.format(other="torchvision"))
    (tmp_path / "torchvision.py").write_text(LIBRARY.format(other="kornia"))
    (tmp_path / "main.py").write_text(MAIN)
    assert sorted(booted(tmp_path)) == ["kornia 1", "torchvision 1"]


def test_garbage_is_collected_again_once_the_nodes_are_there(tmp_path):
    (tmp_path / "nodes.py").write_text(
        "import gc\nprint('nodes', gc.isenabled())\nasync def init_builtin_extra_nodes():\n    pass\n"
    )
    (tmp_path / "main.py").write_text("import gc, sys\nimport nodes\nprint('main', gc.isenabled(), sys.argv[1:])\n")
    assert gc.isenabled()
    assert booted(tmp_path) == ["nodes False", "main True ['--port', '1']"]
