"""Imports point one way; the table below is the whole tree, and every module is in it."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# folder or module -> what else of the checkout it may import; its own folder is always allowed, but for nodes
LAYERS: dict[str, set[str]] = {
    "nodes.rules": set(),
    "nodes.engine": {"nodes.rules"},
    "nodes.sampling_inputs": {"nodes.rules", "nodes.engine"},
    "nodes.frame_inputs": {"nodes.rules"},
    "nodes": {"nodes.rules", "nodes.engine", "nodes.sampling_inputs", "nodes.frame_inputs"},
    "nodes.node_list": {"nodes"},
    "nodes.editor": {"nodes.rules", "nodes.engine", "nodes.node_list"},
    "__init__": {"nodes.node_list", "nodes.editor"},
    "service.contract": set(),
    "service.child_process": set(),
    "service.media": {"service.contract", "service.child_process"},
    "service.media.decoding": {"service.contract", "service.child_process"},
    "service.environment_settings": {"service.media"},
    "service.worker": {
        "service.contract",
        "service.media",
        "service.child_process",
        "service.environment_settings",
    },
    "service.tasks": {"service.contract", "service.environment_settings"},
    "service.executors": {
        "service.contract",
        "service.media",
        "service.tasks",
        "service.worker",
        "service.store",
        "service.environment_settings",
    },
    "service.gateway": {
        "service.contract",
        "service.media",
        "service.tasks",
        "service.store",
        "service.environment_settings",
    },
    "service.store": {"service.contract"},
    "service.local_runpod.callers": set(),
    "service.local_runpod.jobs": set(),
    "service.local_runpod.json_http": set(),
    "service.local_runpod.client_api": {
        "service.local_runpod.callers",
        "service.local_runpod.jobs",
        "service.local_runpod.json_http",
        "service.media",
    },
    "service.local_runpod.sdk_api": {"service.local_runpod.jobs", "service.local_runpod.json_http"},
    "service.local_runpod": {
        "service.child_process",
        "service.media",
        "service.worker",
        "service.local_runpod.callers",
        "service.local_runpod.jobs",
        "service.local_runpod.json_http",
        "service.local_runpod.client_api",
        "service.local_runpod.sdk_api",
    },
    "tools.readme_tables": {
        "service.contract",
        "service.tasks",
        "service.worker",
        "service.gateway",
        "service.executors",
    },
    "tools": {"service.child_process", "service.contract", "service.worker", "tools.readme_tables"},
    "toy": set(),
    "toy.training": {"toy", "nodes.rules", "nodes.engine"},
    "dev": {"tools"},
}
ANYTHING = ("bench", "tests")
# What runs before anything is installed.
SET_UP = {"tools.command_line", "tools.arguments", "tools.checks", "tools.environment", "tools.processes"}
SET_UP |= {"tools.demo_workflow", "tools.npm_packages", "tools.toy_workflows"}
# Folders that run outside ComfyUI's environment, and what they must do without.
WITHOUT_TORCH = ("service", "tools")
TORCH_SIDE = {"torch", "comfy", "comfy_api", "folder_paths", "nodes", "numpy"}


def files() -> list[Path]:
    found = [path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.parts)]
    return sorted(path for path in found if path.stat().st_size and not is_free(module_name(path)))


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name if name == "__init__" else name.removesuffix(".__init__")


def is_free(name: str) -> bool:
    return name.split(".")[0] in ANYTHING


def layer(name: str) -> str:
    """The longest entry of the table that holds the module."""
    parts = name.split(".")
    return next(place for n in range(len(parts), 0, -1) if (place := ".".join(parts[:n])) in LAYERS)


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


def own_imports(path: Path) -> set[str]:
    return {name.removeprefix("wan_relay.") for name in imported_modules(path) if name.startswith("wan_relay.")}


def is_file(name: str) -> bool:
    return name.startswith("wan_relay.") and ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py").is_file()


def test_the_walk_sees_imports_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "nodes" / "rules").mkdir(parents=True)
    (tmp_path / "nodes" / "rules" / "errors.py").touch()
    file = tmp_path / "nodes" / "sample.py"
    file.write_text(
        "import a.b\nfrom c import d\nfrom .rules import errors\ndef f():\n    from .rules.errors import E\n"
    )
    assert imported_modules(file) == {"a.b", "c", "wan_relay.nodes.rules.errors"}


def test_the_table_names_what_is_there() -> None:
    assert len(files()) > 80
    assert {layer(module_name(path)) for path in files()} == set(LAYERS)


@pytest.mark.parametrize("path", files(), ids=module_name)
def test_imports_follow_the_table(path: Path) -> None:
    own = layer(module_name(path))
    allowed = LAYERS[own] | ({own} if own != "nodes" else set())
    for name in own_imports(path):
        assert layer(name) in allowed, f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", files(), ids=module_name)
def test_foreign_imports_suit_the_place(path: Path) -> None:
    name = module_name(path)
    foreign = {imported.split(".")[0] for imported in imported_modules(path)} - {"wan_relay"}
    if layer(name) == "nodes.rules" or name in SET_UP:
        assert foreign <= sys.stdlib_module_names
    if layer(name) == "service.contract":
        assert foreign <= sys.stdlib_module_names | {"pydantic", "pydantic_core"}
    if name.split(".")[0] in WITHOUT_TORCH:
        assert not foreign & TORCH_SIDE


def test_no_two_modules_need_each_other() -> None:
    tuple(TopologicalSorter({module_name(path): own_imports(path) for path in files()}).static_order())


def test_the_toy_family_is_made_without_the_pack() -> None:
    """Its trainer may ask the pack how good a model is; its maker, which every set-up runs, stands alone."""
    seen: set[str] = set()
    waiting = {"toy.family"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= own_imports(ROOT.joinpath(*name.split(".")).with_suffix(".py")) - seen
    assert {name for name in seen if layer(name) != "toy"} == set()
    assert len(seen) > 3
