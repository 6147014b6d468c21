"""npm packages in the cache: installed where they are missing, and only there."""

import json
from pathlib import Path

import pytest
from wan_relay.tools.npm_packages import WRITTEN_LAST, has_npm, installed_packages
from wan_relay.tools.processes import DevError

LOCK = {"name": "x", "lockfileVersion": 3, "requires": True, "packages": {"": {"name": "x"}}}


def project(folder: Path, **dependencies: str) -> Path:
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "x", "dependencies": dependencies}))
    (folder / "package-lock.json").write_text(json.dumps(LOCK))
    return folder


def test_what_is_there_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path / "project")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DevError, match="cannot be installed"):
        installed_packages(folder, tmp_path, "sdks")
    [made] = tmp_path.glob("sdks-*")
    (made / WRITTEN_LAST).parent.mkdir()
    (made / WRITTEN_LAST).touch()
    assert installed_packages(folder, tmp_path, "sdks") == made
    (folder / "package-lock.json").write_text(json.dumps({**LOCK, "name": "y"}))
    with pytest.raises(DevError, match="cannot be installed"):
        installed_packages(folder, tmp_path, "sdks")


@pytest.mark.skipif(not has_npm(), reason="there is no npm")
def test_a_lock_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", replicate="1.4.0")
    with pytest.raises(DevError, match=r"^The packages of .*package-lock\.json cannot be installed: .+"):
        installed_packages(folder, tmp_path, "sdks")
    assert not list(tmp_path.glob("sdks-*/node_modules"))
