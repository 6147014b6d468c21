"""What the registry's archive of the pack holds: the checkout without what .comfyignore names."""

from pathlib import Path

import pathspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
IGNORED = pathspec.GitIgnoreSpec.from_lines((ROOT / ".comfyignore").read_text().splitlines())


def archived(names: list[str]) -> list[str]:
    return [name for name in names if not IGNORED.match_file(name)]


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/__init__.cpython-311.pyc",
        "nodes/__pycache__/sample.cpython-313.pyc",
        "nodes/engine/relay/__pycache__/relay_guider.cpython-312.opt-1.pyc",
        "nodes/rules/errors.pyc",
        "nodes/rules/errors.pyo",
        "nodes/rules/errors.pyd",
    ],
)
def test_no_compiled_python_is_archived(name: str) -> None:
    """ComfyUI installations under an organisation's rules refuse a pack that holds some."""
    assert archived([name]) == []


@pytest.mark.parametrize("folder", ["docs", "js", "locales", "nodes", "workflows"])
def test_the_whole_pack_is_archived(folder: str) -> None:
    names = [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources = [name for name in names if "__pycache__" not in name]
    assert archived(names) == sources != []


def test_what_only_development_needs_is_not_archived() -> None:
    pack = ["__init__.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"]
    others = ["dev.py", "tests/conftest.py", "bench/relay.py", "toy/family.py", "service/worker/job.py", "tools/x.py"]
    assert archived([*pack, *others, ".ci/run", ".runpod/Dockerfile"]) == pack
