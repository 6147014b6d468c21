"""`dev.py serve`: ComfyUI with this pack and the toy models, for the graph editor. Runs in the environment."""

from __future__ import annotations

import json
import shutil
import sys

from .comfyui_server import comfyui_server
from .demo_workflow import EXAMPLE_IMAGE
from .environment import ROOT, Environment
from .processes import run_command, say
from .toy_workflows import toy_graph


def serve(port: int) -> None:
    with comfyui_server(Environment.here(), port=port, log=False) as server:
        shutil.copy(EXAMPLE_IMAGE, server.base / "input" / "example.png")  # the name in the bundled workflows
        for path in (ROOT / "workflows").glob("*.json"):
            graph = toy_graph(json.loads(path.read_text()))
            (server.base / "user" / "default" / "workflows" / path.name).write_text(json.dumps(graph))
        print(f"ready {server.url}", flush=True)
        say("Its Workflows tab (press W) holds the bundled workflows with the toy models, ready to run.")
        server.process.wait()
        server.check_alive()


if __name__ == "__main__":
    sys.exit(run_command(lambda: serve(int(sys.argv[1]))))
