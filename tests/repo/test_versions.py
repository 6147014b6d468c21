"""One version everywhere, and registry metadata that ComfyUI's own parser takes whole."""

import re
import tomllib
from pathlib import Path

import pytest
from wan_relay.tools.environment import REQUIREMENTS, TORCH

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == PROJECT["project"]["version"]


def test_every_tool_and_torch_is_pinned() -> None:
    pins = list(TORCH)
    for path in {path for paths in REQUIREMENTS.values() for path in paths}:
        pins += [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(pins) > 15
    assert [pin for pin in pins if not re.fullmatch(r"[\w-]+==\d+(\.\d+)+", pin)] == []


def test_the_python_that_is_asked_for_is_the_one_that_is_checked() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert PROJECT["tool"]["ruff"]["target-version"] == "py311"
    assert PROJECT["tool"]["mypy"]["python_version"] == "3.11"


@pytest.mark.comfy
def test_comfyui_reads_the_metadata() -> None:
    from comfy_config.config_parser import extract_node_configuration

    read = extract_node_configuration(str(ROOT))
    assert read.project.name == "wan-relay"
    assert read.project.urls.repository == "https://github.com/wan-relay/ComfyUI-WanRelay"
    assert read.project.license.file == "LICENSE"
    assert read.project.supported_comfyui_version == ">=0.30.0"
    assert read.project.supported_os == ["OS Independent"]
    assert read.project.supported_accelerators == ["GPU :: NVIDIA CUDA"]
    assert read.tool_comfy.publisher_id == "wan-relay"
    assert read.tool_comfy.display_name == "Wan Relay"
    assert read.tool_comfy.web is None  # WEB_DIRECTORY says it; both would register the folder twice
