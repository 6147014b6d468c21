"""What the gateway's image installs is all that the gateway imports, and of the versions that the others have."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NAMES = {"PIL": "pillow"}  # module -> package, where they differ
# What comes with another: fastapi has starlette, pydantic its core, dbos SQLAlchemy and psycopg, aiohttp yarl.
COME_ALONG = {"starlette", "pydantic_core", "sqlalchemy", "yarl"}


def pins(service: str) -> dict[str, str]:
    lines = (ROOT / "service" / service / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(module, level) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level
            yield from (
                (f"{node.module}.{alias.name}" if node.module else alias.name, node.level) for alias in node.names
            )


def reach(path: Path, seen: set[Path], foreign: set[str]) -> None:
    """Follows a file's imports inside the checkout; `foreign` collects the packages that are not of Python's own."""
    seen.add(path)
    for name, level in imported(path):
        if not level:
            foreign.add(name.partition(".")[0])
            continue
        target = path.parents[level - 1].joinpath(*name.split("."))
        for file in (target.with_suffix(".py"), target / "__init__.py"):
            if file.is_file() and file not in seen:
                reach(file, seen, foreign)


def test_everything_that_is_imported_is_installed() -> None:
    seen: set[Path] = set()
    foreign: set[str] = set()
    for path in (ROOT / "service" / "gateway").rglob("*.py"):
        if path not in seen:
            reach(path, seen, foreign)
    assert ROOT / "service" / "store" / "open_store.py" in seen
    packages = {NAMES.get(name, name) for name in foreign - sys.stdlib_module_names - COME_ALONG}
    installed = {re.sub("-", "_", name) for name in pins("gateway")}
    assert packages <= installed


def test_versions_are_those_of_the_other_services() -> None:
    own = pins("gateway")
    for service in ("worker", "executors"):
        other = pins(service)
        assert {name: own[name] for name in own.keys() & other.keys()} == {
            name: other[name] for name in own.keys() & other.keys()
        }
