"""How ComfyUI loads the pack: whole, and without a library that ComfyUI had not loaded already."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.comfy

LOAD = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy_config.config_parser, execution, nodes, server  # the first reads a pack's pyproject.toml
prompt_server = server.PromptServer(asyncio.new_event_loop())
before = {name.partition(".")[0] for name in sys.modules}
loaded = asyncio.run(nodes.load_custom_node(sys.argv.pop(), module_parent="custom_nodes"))
after = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"loaded": loaded, "new": sorted(after - before - set(sys.stdlib_module_names)),
    "nodes": [name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("WanRelay_")],
    "web": nodes.EXTENSION_WEB_DIRS}))
"""


def test_the_pack_brings_no_library_of_its_own(tmp_path: Path) -> None:
    pack = tmp_path / "ComfyUI-WanRelay"
    pack.symlink_to(ROOT)
    script = LOAD.replace("sys.argv.pop()", repr(str(pack)))
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, os.environ["COMFYUI_PATH"]],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=240,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["loaded"], run.stderr[-2000:]
    assert [name for name in said["new"] if not name.startswith(str(tmp_path))] == []
    assert said["nodes"] == list(json.loads((ROOT / "tests" / "data" / "node_schemas.json").read_text()))
    assert list(said["web"].values()) == [str(pack / "js")]
