"""What an operator sets, and is told when it cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from wan_relay.service.executors.local import own_folder
from wan_relay.service.executors.runpod import RunpodSettings
from wan_relay.service.executors.settings import ExecutorSettings
from wan_relay.tests.service.executors.deployment import ROOT
from wan_relay.tools import readme_tables as documentation


def test_readme_tables_are_those_of_the_declarations() -> None:
    page = documentation.EXECUTORS_README.read_text(encoding="utf-8")
    assert documentation.with_tables(page, documentation.EXECUTORS_TABLES) == page
    assert "WAN_RELAY_DATABASE" in page
    assert "WAN_RELAY_RUNPOD_URL" in page


def test_an_executors_name_is_its_own_and_the_same_after_a_restart(tmp_path: Path) -> None:
    plain = ExecutorSettings.from_environment({})
    assert plain.id_for("local", tmp_path / "a") == plain.id_for("local", tmp_path / "a")
    names = {plain.id_for("local", tmp_path / "a"), plain.id_for("local", tmp_path / "b"), plain.id_for("runpod")}
    assert len(names) == 3
    assert ExecutorSettings.from_environment({"WAN_RELAY_EXECUTOR_ID": "gpu-1"}).id_for("local", tmp_path) == "gpu-1"


def test_a_folder_has_one_executor(tmp_path: Path) -> None:
    with own_folder(tmp_path / "run"):
        with pytest.raises(SystemExit, match="WAN_RELAY_RUN_DIR: another executor has this folder"):
            own_folder(tmp_path / "run")
        with own_folder(tmp_path / "other"):
            pass
    with own_folder(tmp_path / "run"):
        pass


def test_keys_are_not_shown() -> None:
    variables = {"WAN_RELAY_RUNPOD_URL": "https://api.runpod.ai/v2/x", "WAN_RELAY_RUNPOD_KEY": "key-of-runpod"}
    variables |= {"WAN_RELAY_LINK_SECRET": "secret-of-the-links", "WAN_RELAY_STORE_SECRET": "secret-of-the-store"}
    shown = repr(RunpodSettings.from_environment(variables))
    assert not any(secret in shown for secret in ("key-of-runpod", "secret-of-the-links", "secret-of-the-store"))


@pytest.mark.parametrize(
    ("module", "variables", "said"),
    [
        ("local", {"WAN_RELAY_DATABASE": "mysql://me:word@host/x"}, "the database must be a file or postgresql://…"),
        ("local", {"WAN_RELAY_STORE": "ftp://host/x"}, "the object store must be a folder"),
        ("local", {"WAN_RELAY_EXECUTOR_ID": "two words"}, "WAN_RELAY_EXECUTOR_ID: "),
        ("runpod", {}, "WAN_RELAY_RUNPOD_URL: Field required"),
        ("runpod", {"WAN_RELAY_RUNPOD_URL": "api.runpod.ai/v2/x"}, "WAN_RELAY_RUNPOD_URL: "),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, module: str, variables: dict[str, str], said: str
) -> None:
    own = {"WAN_RELAY_DATABASE": str(tmp_path / "t.sqlite"), "WAN_RELAY_STORE": str(tmp_path / "objects")}
    ended = subprocess.run(
        [sys.executable, "-m", f"service.executors.{module}"],
        cwd=ROOT,
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == 1
    assert "word" not in ended.stderr.replace("two words", "")
