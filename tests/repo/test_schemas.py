"""The public surface: node ids, inputs and outputs never change by accident, and each says what it is.

After a change that is meant, `python3 dev.py run tests.repo.test_schemas` writes the snapshot again.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = ROOT / "tests" / "data" / "node_schemas.json"
LISTS_OF_THE_MACHINE = {
    "high_noise",
    "low_noise",
    "high_noise_lora",
    "low_noise_lora",
    "text_encoder",
    "sampler",
    "scheduler",
}

pytestmark = pytest.mark.comfy


def node_infos() -> dict[str, dict[str, Any]]:
    """{node id: what /object_info says about it}."""
    from wan_relay.nodes.node_list import NODES

    return {info["name"]: info for info in (node.GET_NODE_INFO_V1() for node in NODES)}


def input_of(name: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: options[key] for key in ("default", "min", "max", "advanced") if key in options}
    if kind == "COMFY_DYNAMICCOMBO_V3":
        kept["options"] = {
            option["key"]: {
                further: input_of(re.sub(r"_\d+$", "", further), *declared)
                for further, declared in option["inputs"].get("optional", {}).items()
            }
            for option in options["options"]
        }
    elif "options" in options and name not in LISTS_OF_THE_MACHINE:
        kept["options"] = options["options"]
    return {"type": kind} | kept


def surface() -> dict[str, Any]:
    return {
        node_id: {
            "display_name": info["display_name"],
            "category": info["category"],
            "inputs": {
                need: {name: input_of(name, *declared) for name, declared in info["input"].get(need, {}).items()}
                for need in ("required", "optional")
            },
            "outputs": dict(zip(info["output_name"], info["output"], strict=True)),
        }
        for node_id, info in node_infos().items()
    }


def test_ids_inputs_and_outputs_are_those_of_the_snapshot() -> None:
    assert json.dumps(surface(), indent=1) == json.dumps(json.loads(SNAPSHOT.read_text()), indent=1)  # order counts


def test_every_input_and_output_has_a_tooltip() -> None:
    for node_id, info in node_infos().items():
        for name, (_, options) in {**info["input"]["required"], **info["input"].get("optional", {})}.items():
            assert options.get("tooltip"), f"{node_id} {name}"
        assert all(info["output_tooltips"]), node_id
        assert info["description"], node_id
        assert info["search_aliases"], node_id


def test_the_demo_takes_what_the_nodes_take() -> None:
    from wan_relay.tools.command_line import command_line
    from wan_relay.tools.processes import DevError

    ranges: dict[str, Any] = {}
    for node_id, names in {
        "WanRelay_PrepareLatent": ["width", "height", "length"],
        "WanRelay_Sample": ["steps", "seed"],
    }.items():
        ranges |= {name: node_infos()[node_id]["input"]["required"][name][1] for name in names}
    ranges["fps"] = node_infos()["WanRelay_SaveVideo"]["input"]["required"]["fps"][1]
    for name, options in ranges.items():
        for accepted in (options["min"], options["max"]):
            assert getattr(command_line().parse_args(["demo", f"--{name}", str(accepted)]), name) == accepted
        for refused in (options["min"] - 1, options["max"] + 1):
            with pytest.raises(DevError, match=f"--{name}: expected"):
                command_line().parse_args(["demo", f"--{name}", str(refused)])


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(surface(), indent=1) + "\n")
