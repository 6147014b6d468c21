"""`dev.py demo`: one image to an mp4, through a ComfyUI of its own. Runs in the environment."""

from __future__ import annotations

import argparse
import os
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

from . import demo_workflow
from .arguments import Parser
from .comfyui_server import Server, comfyui_server
from .demo_image import check_image
from .environment import Environment
from .processes import run_command, say
from .toy_workflows import inputs_of, opening_steps


def demo(options: argparse.Namespace) -> None:
    workflow, images, models = demo_workflow.demo_workflow(options)
    for path in images.values():
        check_image(path)
    say("Starting ComfyUI.")
    with comfyui_server(Environment.here(), models=models) as server:
        for title, path in images.items():
            inputs_of(workflow, "LoadImage", title)["image"] = server.upload(path, title.lower().replace(" ", "_"))
        outputs = list(server.run(workflow, Progress(server, workflow))["outputs"].values())
        for warning in [w for output in outputs for report in output.get("wan_relay", []) for w in report["warnings"]]:
            say(warning)
        video = next(output["images"][0] for output in outputs if "images" in output)
        query = urllib.parse.urlencode({key: video[key] for key in ("filename", "subfolder", "type")})
        write_whole(options.out, server.request(f"/view?{query}"))
    size = f"{video['width']} x {video['height']}"
    say(f"{video['frame_count']} frames of {size} at {video['fps']:g} fps, seed {video['seed']}.")
    print(options.out.resolve())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name never shows a part of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Progress:
    """Says what ComfyUI reports over its socket: each node as it starts, each sampling step with its expert."""

    def __init__(self, server: Server, workflow: dict[str, Any]) -> None:
        sample = inputs_of(workflow, "WanRelay_Sample")
        asked = {key: value for key, value in sample.items() if not isinstance(value, list)}
        if steps := opening_steps(workflow):
            asked["opening"] = ",".join(map(str, steps))
        query = urllib.parse.urlencode(asked)
        plan = server.get(f"/wan_relay/schedule?{query}")
        self.two_experts, self.switch_step = "low_noise" in sample, plan.get("switch_step", 0)
        self.n_opening = sum(plan.get("n_opening", ()))
        self.workflow = workflow
        self.started = time.monotonic()
        self.shown: set[str] = set()

    def __call__(self, message: dict[str, Any]) -> None:
        nodes = message["data"]["nodes"] if message["type"] == "progress_state" else {}
        for node_id, state in nodes.items():
            shown = self.workflow[state.get("display_node_id") or node_id]
            line = self.line(shown, int(state["value"]), int(state["max"])) + segment_of(node_id)
            if line not in self.shown:
                self.shown.add(line)
                say(f"{time.monotonic() - self.started:5.1f} s  {line}")

    def line(self, node: dict[str, Any], value: int, maximum: int) -> str:
        title = node["_meta"]["title"]
        if node["class_type"] != "WanRelay_Sample" or maximum == 1:
            return title
        expert = "high-noise expert" if value <= self.switch_step else "low-noise expert"
        expert = "opening leg" if value <= self.n_opening else expert if self.two_experts else "model"
        return f"{title}: step {value} of {maximum}, {expert}"


def segment_of(node_id: str) -> str:
    """Of a node that Long Video has made, in which segment: its name is `LONG_VIDEO.0.0.SEGMENT.NODE`."""
    parts = node_id.split(".")
    return f", segment {parts[3]}" if len(parts) == 5 else ""


def main() -> None:
    parser = Parser(prog="dev.py demo")
    demo_workflow.add_arguments(parser)
    demo(parser.parse_args())


if __name__ == "__main__":
    sys.exit(run_command(main))
