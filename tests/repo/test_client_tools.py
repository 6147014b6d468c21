"""What people check a workflow and a pack with before they use them finds nothing: comfy-lint, comfy-import-guard."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE
from wan_relay.tools.environment import COMFYUI_VERSION, ROOT
from wan_relay.tools.toy_workflows import bundled_workflow, inputs_of, with_toy_files

NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


def report(tool: str, *arguments: Any) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON that a tool prints, each of which is a command of its package."""
    code = f"import sys; from {tool}.cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.server
def test_comfy_lint_finds_nothing_in_a_bundled_workflow(comfy_server: Any, tmp_path: Path) -> None:
    image = comfy_server.upload(EXAMPLE_IMAGE, "photograph")
    files = []
    for name in NAMES:
        workflow = with_toy_files(bundled_workflow(name))
        for title in ("Start image", "End image"):
            inputs_of(workflow, "LoadImage", title)["image"] = image
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(workflow))
    schema = ["--server", comfy_server.url, "--schema-cache", tmp_path / "object_info"]
    code, linted = report("comfy_lint", *schema, "--json", "--strict", *files)
    assert (code, [file["diagnostics"] for file in linted["files"]]) == (0, [[]] * len(NAMES))

    broken = with_toy_files(bundled_workflow(NAMES[0]))
    del inputs_of(broken, "WanRelay_Sample")["steps"]
    files[0].write_text(json.dumps(broken))
    code, linted = report("comfy_lint", *schema, "--json", files[0])
    rules = [fault["rule"] for fault in linted["files"][0]["diagnostics"] if fault["class_type"] == "WanRelay_Sample"]
    assert (code, rules) == (1, ["missing-required"])


@pytest.mark.skipif(not shutil.which("git"), reason="comfy-import-guard reads ComfyUI from a git repository")
def test_comfy_import_guard_finds_all_that_the_pack_takes_from_comfyui(tmp_path: Path) -> None:
    repository(Path(os.environ["COMFYUI_PATH"]), tmp_path / "cache" / "ComfyUI")
    pack = tmp_path / "custom_nodes" / "ComfyUI-WanRelay"
    shutil.copytree(ROOT / "nodes", pack / "nodes")
    shutil.copy(ROOT / "__init__.py", pack)
    check = ["--offline", "--cache-dir", tmp_path / "cache", "--json", "--quiet", "check", "--comfy-dir", tmp_path]
    check += ["--target", f"v{COMFYUI_VERSION}", "--strict"]
    code, found = report("comfy_import_guard", *check)
    assert (code, found["totals"]["safe"], found["totals"]["will_break"], found["totals"]["warn"]) == (0, 1, 0, 0)

    (pack / "old.py").write_text("from comfy.samplers import a_name_that_is_gone\n")
    assert report("comfy_import_guard", *check)[0] == 1


def repository(source: Path, target: Path) -> None:
    """A git repository with ComfyUI's Python, tagged as its version."""
    ignored = shutil.ignore_patterns("custom_nodes", "models", "input", "output", "user", "tests*", "__pycache__")
    shutil.copytree(source, target, ignore=ignored)
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for step in (["init", "-q"], ["add", "*.py"], [*who, "commit", "-qm", "ComfyUI"], ["tag", f"v{COMFYUI_VERSION}"]):
        subprocess.run(["git", *step], cwd=target, stdin=subprocess.DEVNULL, check=True, timeout=120)
