"""dev.py itself: what it says where it cannot run, and that it leaves nothing behind."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import wan_relay_dev as dev
from wan_relay.tests.waiting import wait_until
from wan_relay.tools.comfyui_server import free_port

DEV = dev.ROOT / "dev.py"


def run_dev(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEV), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, cwd=cwd)


def test_the_script_alone_says_it_too(tmp_path: Path) -> None:
    run = run_dev("demo", "--workflow", "nope", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert run.stderr.startswith("--workflow: there is no bundled workflow 'nope'; there are wan22_flf2v_4step, ")


def test_an_older_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(dev.sys, "version_info", (3, 9, 2))
    assert dev.main(["env"]) == 1
    assert capsys.readouterr().err.startswith("dev.py needs Python 3.11 or newer, and this is ")


def test_an_older_python_can_read_the_script_at_all() -> None:
    ast.parse(DEV.read_text(), feature_version=(3, 8))


def processes_with(text: str) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().decode(errors="replace"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.comfy
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and only Linux has a death signal")
@pytest.mark.parametrize(("sign", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_no_comfyui_is_left_behind(sign: str, code: int, tmp_path: Path) -> None:
    port = str(free_port())
    command = [sys.executable, "-P", str(DEV), "run", "tools.serve", port]
    variables = os.environ | {"TMPDIR": str(tmp_path), "WAN_RELAY_TOY_MODELS": str(tmp_path)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=variables, start_new_session=True, **pipes)
    try:
        wait_until(lambda: processes_with(f"--base-directory\0{tmp_path}"))
        process.send_signal(getattr(signal, sign))
        assert process.wait(timeout=60) == code
        wait_until(lambda: not processes_with(f"--base-directory\0{tmp_path}"))
        if sign != "SIGKILL":
            assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.wait()
