"""Imports point one way: rules <- engine <- nodes <- node_list <- __init__, and the worker stands alone."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK_FILES = sorted([ROOT / "__init__.py", *(ROOT / "nodes").rglob("*.py")])
WORKER_CHAIN = ["errors", "settings", "request", "workflow", "comfy_client", "result", "handler"]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imported_modules(path: Path) -> set[str]:
    """What a file imports, at any depth of its code; a module of this checkout is written `wan_relay.<its name>`."""
    package = ["wan_relay", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join([*base, alias.name]) for alias in node.names]
            found |= {name if is_file(name) else ".".join(base) for name in names}
    return found


def is_file(name: str) -> bool:
    return name.startswith("wan_relay.") and ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py").is_file()


def layer(name: str) -> int:
    """The height of a module of the pack: a module may import what is lower, rules and engine also their own kind."""
    if name == "":
        return 5
    if name.startswith("nodes.rules"):
        return 0
    if name.startswith("nodes.engine"):
        return 1
    if name == "nodes.sampling_inputs":
        return 2
    return 4 if name in ("nodes.node_list", "nodes.routes") else 3


def test_the_walk_sees_imports_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "nodes" / "rules").mkdir(parents=True)
    (tmp_path / "nodes" / "rules" / "errors.py").touch()
    file = tmp_path / "nodes" / "sample.py"
    file.write_text(
        "import a.b\nfrom c import d\nfrom .rules import errors\ndef f():\n    from .rules.errors import E\n"
    )
    assert imported_modules(file) == {"a.b", "c", "wan_relay.nodes.rules.errors"}


@pytest.mark.parametrize("path", PACK_FILES, ids=module_name)
def test_the_pack_imports_downwards(path: Path) -> None:
    own = module_name(path)
    for name in imported_modules(path):
        if name.startswith("wan_relay"):
            target = name.removeprefix("wan_relay").lstrip(".")
            assert target.startswith("nodes"), f"{own} imports {name}, which is not part of the pack"
            assert layer(target) < layer(own) or (layer(target) == layer(own) != 3), f"{own} imports {name}"
        elif layer(own) == 0:
            assert name.split(".")[0] in sys.stdlib_module_names, f"{own} is a rule and imports {name}"


def worker_imports() -> dict[str, set[str]]:
    return {path.stem: imported_modules(path) for path in (ROOT / "worker").glob("*.py")}


def test_the_worker_imports_nothing_of_the_pack() -> None:
    for name, imported in worker_imports().items():
        own = {target for target in imported if target.startswith("wan_relay")}
        assert {target for target in own if not target.startswith("wan_relay.worker")} == set(), name
        assert not {target.split(".")[0] for target in imported} & {"torch", "comfy", "folder_paths", "nodes"}, name


def test_the_worker_imports_downwards() -> None:
    graph = {
        name: {target.removeprefix("wan_relay.worker.") for target in imported if "wan_relay.worker." in target}
        for name, imported in worker_imports().items()
    }
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError
    for place, name in enumerate(WORKER_CHAIN):
        assert not graph[name] & set(WORKER_CHAIN[place + 1 :]), name


def test_the_toy_family_is_made_without_the_pack() -> None:
    """Its trainer may ask the pack how good a model is; its maker, which every set-up runs, stands alone."""
    seen: set[str] = set()
    waiting = {"wan_relay.toy.family"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        imported = imported_modules(ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py"))
        waiting |= {other for other in imported if is_file(other)} - seen
    assert {name for name in seen if not name.startswith("wan_relay.toy.")} == set()
    assert len(seen) > 3
