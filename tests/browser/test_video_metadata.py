"""The graph editor's own reader finds the workflow in the files that Save Video writes."""

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from wan_relay.nodes.engine.video.video_file import VideoSpec, encode_video
from wan_relay.nodes.engine.video.video_format import video_format

READ = """
const bytes = Uint8Array.from(atob(argument.content), (character) => character.charCodeAt(0));
const file = new File([bytes], argument.name, { type: argument.type });
return await window.comfyAPI.parser.getWorkflowDataFromFile(file);
"""


@pytest.mark.parametrize(("name", "megabytes"), [("mp4 h264", 3), ("webm vp9", 1)])
def test_the_editor_finds_the_workflow_whatever_the_prompt_says(
    editor: Any, tmp_path: Path, name: str, megabytes: int
) -> None:
    from wan_relay.nodes.engine.video.video_tags import _json_for_tags

    chosen = video_format(name)
    written = {
        "workflow": {"nodes": [{"title": 'a } and {{ in "text", \\ too'}], "notes": "grün " * 100_000 * megabytes},
        "prompt": {"1": {"inputs": {"text": "unbalanced { brace"}, "class_type": "PrimitiveString"}},
    }
    path = tmp_path / f"clip.{chosen.container}"
    tags = {key: _json_for_tags(value) for key, value in written.items()}
    encode_video(path, torch.rand(2, 32, 32, 3), VideoSpec(chosen, Fraction(16), 30), metadata=tags)
    content = base64.b64encode(path.read_bytes()).decode()
    found = editor.run(READ, {"content": content, "name": path.name, "type": f"video/{chosen.container}"})
    assert {key: found[key] for key in written} == written
