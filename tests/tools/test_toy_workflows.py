"""What the graph templates become for the toy family."""

import json
from pathlib import Path

import pytest
from wan_relay.tools.environment import ROOT
from wan_relay.tools.toy_workflows import LEFT_OUT, toy_graph


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_the_templates_that_serve_offers_are_toys(path: Path) -> None:
    graph = toy_graph(json.loads(path.read_text()))
    values = {node["type"]: node.get("widgets_values") for node in graph["nodes"]}
    sizing = "match image" if "LoadImage" in values else "fixed"
    assert values["WanRelay_PrepareLatent"][:6] == [sizing, 240, 160, "crop", 33, 1]
    assert values["WanRelay_LoadExperts"][0].startswith("toy_wan2.2_")
    assert values["VAELoader"][0].startswith("toy_wan")
    assert values["WanRelay_EncodePrompts"][1] == "The camera pans left."
    *cfgs, sampler = values["WanRelay_Sample"][3:6]
    assert values.get("WanRelay_OpeningLeg", [1, 1.5]) == [1, 1.5]
    modes = {node["type"]: node["mode"] for node in graph["nodes"]}
    assert [kind for kind, mode in modes.items() if mode] == ([LEFT_OUT] if path.stem == "wan22_i2v_smooth" else [])
    cfg = 1.5 if path.stem in ("wan22_i2v_reference", "wan22_ti2v_5b") else 1.0
    assert (cfgs, sampler in ("euler", "flow_unipc")) == ([cfg, cfg], True)
