"""What makes up the image, and its documentation: the scripts run outside Docker too."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from wan_relay.service.worker.settings import Settings
from wan_relay.tools import environment
from wan_relay.tools import readme_tables as documentation

ROOT = Path(__file__).resolve().parents[3]
WORKER = ROOT / "service" / "worker"
FAKE_COMFYUI = Path(__file__).parent / "fake_comfyui"


def run_script(command: list[str], folder: Path, **variables: str) -> str:
    """The script's output; it is killed with everything it started."""
    log = folder / "script.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            start_new_session=True,
        )
    try:
        code = process.wait(90)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
    output = log.read_text(errors="replace")
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def image_root(tmp_path_factory):
    """A scratch root as the Dockerfile leaves it, over the fake ComfyUI."""
    root = tmp_path_factory.mktemp("image")
    shutil.copytree(FAKE_COMFYUI, root / "comfyui")
    run_script(["bash", str(WORKER / "install.sh"), "pack"], root, COMFYUI_PATH=str(root / "comfyui"))
    return root


@pytest.mark.timeout(180)
def test_start_sh_comes_up_in_a_scratch_root(image_root):
    pack = image_root / "comfyui" / "custom_nodes" / "ComfyUI-WanRelay"
    (image_root / "run" / "output").mkdir(parents=True)
    (image_root / "run" / "fake.json").write_text("{}")
    volume = image_root / "volume"
    volume.mkdir()
    output = run_script(
        [
            "bash",
            str(pack / "service" / "worker" / "start.sh"),
            "--test_input",
            '{"id": "1", "input": {"action": "ping"}}',
        ],
        image_root,
        COMFYUI_PATH=str(image_root / "comfyui"),
        COMFYUI_PYTHON=sys.executable,
        COMFYUI_PORT="0",
        HANDLER_PYTHON=sys.executable,
        WAN_RELAY_RUN_DIR=str(image_root / "run"),
        WAN_RELAY_VOLUME=str(volume),
    )
    assert "'status': 'ready'" in output
    assert "'comfyui_version': '0.30.0'" in output


def test_start_sh_preloads_tcmalloc_however_long_the_list_of_libraries_is(tmp_path):
    """A reader that stops at its first find ends the writer by chance, and pipefail makes that a failure."""
    path = "/lib/libtcmalloc_minimal.so.4"
    (tmp_path / "ldconfig").write_text(
        f"#!/bin/sh\necho '\tlibtcmalloc_minimal.so.4 (libc6) => {path}'\nseq 100000 || exit 1\n"
        f"echo '\tlibtcmalloc_minimal.so.4 (libc6) => /lib32/libtcmalloc_minimal.so.4'\n"
    )
    (tmp_path / "python").write_text('#!/bin/sh\necho "preload $LD_PRELOAD"\n')
    for name in ("ldconfig", "python"):
        (tmp_path / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        ["bash", WORKER / "start.sh"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=inherited | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HANDLER_PYTHON": str(tmp_path / "python")},
        text=True,
        timeout=60,
    )
    assert done.stdout == f"preload {path}\n", done.stderr


def test_pack_is_what_comfyui_needs_and_no_more(image_root):
    pack = image_root / "comfyui" / "custom_nodes" / "ComfyUI-WanRelay"
    names = {path.name for path in pack.iterdir()}
    assert names == {"__init__.py", "nodes", "js", "locales", "service", "workflows", "pyproject.toml", "LICENSE"}
    copied = sorted(path.name for path in (pack / "workflows" / "api").iterdir())
    assert copied == sorted(path.name for path in (ROOT / "workflows" / "api").iterdir())


def test_readme_tables_are_those_of_the_declarations():
    page = (WORKER / "README.md").read_text(encoding="utf-8")
    assert documentation.with_tables(page) == page


def test_readme_client_is_valid_python():
    page = (WORKER / "README.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(code, "README", "exec")


def test_versions_are_those_that_were_tested():
    install = (WORKER / "install.sh").read_text()
    assert f"COMFYUI_VERSION={environment.COMFYUI_VERSION}" in install
    assert f"TORCH=({' '.join(environment.TORCH)})" in install
    pins = dict(line.split("==") for line in (WORKER / "requirements.txt").read_text().splitlines() if "==" in line)
    names = {"runpod", "aiohttp", "fastapi", "uvicorn", "pydantic", "pillow", "av", "botocore", "psutil", "PyYAML"}
    assert set(pins) == names
    assert not re.search(r"^(torch|numpy)", (WORKER / "requirements.txt").read_text(), re.MULTILINE)


def test_dockerfile_runs_only_our_steps():
    dockerfile = (WORKER / "Dockerfile").read_text()
    assert re.search(r"^FROM nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.\d\d AS base$", dockerfile, re.MULTILINE)
    steps = re.findall(r"RUN /build/service/worker/install\.sh ([a-z ]+)", dockerfile)
    assert " ".join(steps).split() == ["comfyui", "torch", "handler", "pack", "check"]
    fields = {info.alias for info in Settings.model_fields.values()}
    used = set(re.findall(r"\b(WAN_RELAY_[A-Z_]+|COMFYUI_[A-Z_]+)=", dockerfile))
    assert used <= fields


def test_scripts_are_valid_and_executable():
    for name in ("install.sh", "start.sh"):
        script = WORKER / name
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", script], stdin=subprocess.DEVNULL, check=True, timeout=30)
    refused = subprocess.run(
        ["bash", WORKER / "install.sh", "nonsense"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    assert (refused.returncode, refused.stderr) == (2, b"install.sh: unknown step nonsense\n")


def test_hub_files_have_the_documented_keys():
    hub = json.loads((ROOT / ".runpod" / "hub.json").read_text())
    assert {"title", "description", "type", "category", "config"} <= set(hub)
    assert (hub["type"], hub["category"]) == ("serverless", "video")
    config_keys = {"runsOn", "containerDiskInGb", "gpuCount", "gpuIds", "allowedCudaVersions", "presets", "env"}
    assert set(hub["config"]) <= config_keys
    pools = {"AMPERE_16", "AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO", "AMPERE_80", "ADA_80_PRO", "HOPPER_141"}
    assert set(hub["config"]["gpuIds"].split(",")) <= pools
    fields = {info.alias for info in Settings.model_fields.values()}
    input_keys = {"name", "type", "description", "default", "required", "min", "max", "advanced", "options"}
    for entry in hub["config"]["env"]:
        assert entry["key"] in fields
        assert set(entry["input"]) <= input_keys
    tests = json.loads((ROOT / ".runpod" / "tests.json").read_text())
    assert set(tests) == {"tests", "config"}
    for test in tests["tests"]:
        assert set(test) == {"name", "input", "timeout"}
    for name in ("README.md", "handler.py"):
        assert (ROOT / ".runpod" / name).resolve() == WORKER / name
    own = ROOT / ".runpod" / "Dockerfile"  # BuildKit does not follow a link out of its folder
    assert not own.is_symlink()
    assert own.read_bytes() == (WORKER / "Dockerfile").read_bytes()


def test_hosts_have_the_cuda_that_torch_is_built_for():
    cuda = importlib.metadata.version("cuda-toolkit").rpartition(".")[0]
    dockerfile = (WORKER / "Dockerfile").read_text()
    assert f"FROM nvidia/cuda:{cuda}." in dockerfile
    assert f"RUNPOD_MIN_CUDA_VERSION={cuda} " in dockerfile
    for name in ("hub.json", "tests.json"):
        assert json.loads((ROOT / ".runpod" / name).read_text())["config"]["allowedCudaVersions"] == [cuda]
