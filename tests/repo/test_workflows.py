"""The bundled API workflows fit the nodes: classes, inputs, links and values, before any server is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.tools.toy_workflows import LEFT_OUT, TOY_FILES, with_toy_files

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "workflows" / "api").glob("*.json"))}
EVERY_NODE = [(name, node_id) for name, workflow in WORKFLOWS.items() for node_id in workflow]

FILM = "film_net_fp16.safetensors"  # the toy family has no such network

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, Any]]:
    """{class: {"inputs": {name: (type, options)}, "required": names, "outputs": types}}, of the pack and of core."""
    from comfy_extras.nodes_frame_interpolation import FrameInterpolationModelLoader
    from comfy_extras.nodes_upscale_model import UpscaleModelLoader
    from wan_relay.nodes.node_list import NODES

    import nodes

    infos = [
        (node.GET_NODE_INFO_V1()["name"], node.GET_NODE_INFO_V1()["input"], node.GET_NODE_INFO_V1()["output"])
        for node in (*NODES, UpscaleModelLoader, FrameInterpolationModelLoader)
    ]
    for name in ("LoadImage", "VAELoader", "VAEDecode"):
        infos.append(
            (name, nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES(), nodes.NODE_CLASS_MAPPINGS[name].RETURN_TYPES)
        )
    return {
        name: {
            "inputs": {**declared["required"], **declared.get("optional", {})},
            "required": set(declared["required"]),
            "outputs": list(outputs),
        }
        for name, declared, outputs in infos
    }


def test_there_are_nine() -> None:
    assert list(WORKFLOWS) == [
        "wan22_flf2v_4step",
        "wan22_i2v_4step",
        "wan22_i2v_4step_lora",
        "wan22_i2v_4step_motion",
        "wan22_i2v_long",
        "wan22_i2v_reference",
        "wan22_i2v_smooth",
        "wan22_t2v_4step",
        "wan22_ti2v_5b",
    ]


@pytest.mark.parametrize(("name", "node_id"), EVERY_NODE)
def test_a_node_fits_its_class(name: str, node_id: str, known: dict[str, dict[str, Any]]) -> None:
    workflow = WORKFLOWS[name]
    node = workflow[node_id]
    declared = known[node["class_type"]]
    assert set(node) == {"inputs", "class_type", "_meta"}
    assert declared["required"] <= set(node["inputs"]) <= set(declared["inputs"])
    for key, value in node["inputs"].items():
        kind, options = declared["inputs"][key][0], (*declared["inputs"][key], {})[1]
        if isinstance(value, list):
            source, slot = value
            assert known[workflow[source]["class_type"]]["outputs"][slot] == kind, key
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= value <= options["max"], key
        elif isinstance(value, str) and value.endswith((".safetensors", ".png")):
            assert value in {*TOY_FILES, FILM, "example.png"}, key
        elif kind == "COMBO" or isinstance(kind, list):
            assert value in (kind if isinstance(kind, list) else options["options"]), key


@pytest.mark.parametrize("name", WORKFLOWS)
def test_clients_find_what_they_change(name: str) -> None:
    """By class, and by title where two nodes share one."""
    found = [(node["class_type"], node["_meta"]["title"]) for node in WORKFLOWS[name].values()]
    assert len(set(found)) == len(found)
    classes = [class_type for class_type, _ in found]
    images = [title for class_type, title in found if class_type == "LoadImage"]
    single = {"EncodePrompts", "PrepareLatent", "Sample", "SaveVideo", "LoadExperts"}
    assert {node: classes.count(f"WanRelay_{node}") for node in single} == dict.fromkeys(single, 1)
    assert images == {"wan22_t2v_4step": [], "wan22_flf2v_4step": ["Start image", "End image"]}.get(
        name, ["Start image"]
    )
    assert ("VAELoader", "VAE") in found


def test_the_toy_names_replace_every_real_one() -> None:
    def names(value: Any) -> set[str]:
        if isinstance(value, dict | list):
            return set().union(*map(names, value.values() if isinstance(value, dict) else value))
        return {value} if isinstance(value, str) and value.endswith(".safetensors") else set()

    toys = with_toy_files(WORKFLOWS)
    assert names(WORKFLOWS) == {*TOY_FILES, FILM}
    assert names(toys) == set(TOY_FILES.values()) - {"none"}
    assert LEFT_OUT not in {node["class_type"] for workflow in toys.values() for node in workflow.values()}
    links = [
        (name, value[0])
        for name, workflow in toys.items()
        for node in workflow.values()
        for value in node["inputs"].values()
        if isinstance(value, list)
    ]
    assert [link for name, link in links if link not in toys[name]] == []
