"""nodes/rules/files/widget_value.py."""

from typing import Any

import pytest
from wan_relay.nodes.rules.files.widget_value import widget_value


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


def drawn(id: Any, type: str, name: str | None = None, title: str | None = None) -> dict[str, Any]:
    properties = {"Node name for S&R": name} if name else {}
    return {"id": id, "type": type, "properties": properties, "title": title, "widgets_values": [1, "fixed"]}


PROMPT = {
    "12": node("WanRelay_Sample", "Second pass", seed=2**63 + 11, high_noise_cfg=3.5, low_noise_cfg=5.0, steps=None),
    "6": node("WanRelay_Sample", "Wan Relay: Sample", seed=7, upscale=True, latent=["5", 2], list=[], pair=[1, 2, 3]),
    "3": node("KSampler", "mine", seed=["20", 0], steps=["6", 0], cfg=["21", 0], denoise=["99", 0]),
    "20": node("PrimitiveInt", "The seed", value=31),
    "21": node("PrimitiveFloat", value=["20", 0]),
    "8:4": node("SaveLatent", filename_prefix="a/b"),
}
WORKFLOW = {
    "nodes": [
        drawn(3, "KSampler", "KSampler"),
        drawn(6, "WanRelay_Sample", "mine"),
        drawn(8, "5d3c", None),
        drawn(12, "WanRelay_Sample", "WanRelay_Sample"),
        drawn(40, "PrimitiveNode", "Muted"),
    ],
    "definitions": {"subgraphs": [{"id": "5d3c", "nodes": [drawn(4, "SaveLatent", "inner")]}]},
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WanRelay_Sample.seed", str(2**63 + 11)),  # the search name of 12; that of 6, which comes first, was changed
        ("mine.seed", "7"),  # a search name counts before a title
        ("Second pass.seed", str(2**63 + 11)),
        ("Wan Relay: Sample.seed", "7"),
        ("Sample.seed", "7"),
        ("KSampler.seed", "31"),
        ("PrimitiveInt.value", "31"),
        ("The seed.value", "31"),
        ("inner.filename_prefix", "a/b"),
        ("SaveLatent.filename_prefix", "a/b"),
        ("Second pass.high_noise_cfg", "3.5"),
        ("Second pass.low_noise_cfg", "5"),
        ("Second pass.steps", ""),
        ("mine.upscale", "true"),
        ("mine.latent", None),
        ("mine.list", None),
        ("mine.pair", None),
        ("KSampler.steps", None),
        ("KSampler.cfg", None),
        ("KSampler.denoise", None),
        ("mine.width", None),
        ("Muted.value", None),
        ("nobody.seed", None),
        (".seed", None),
    ],
)
def test_widgets_are_found_as_the_editor_finds_them(name: str, text: str | None) -> None:
    assert widget_value(PROMPT, WORKFLOW, *name.split(".")) == text


@pytest.mark.parametrize(
    "workflow",
    [None, 5, "x", [], {}, {"nodes": None}, {"nodes": [None]}, {"nodes": [{"id": 6}]}, {"nodes": [], "definitions": 3}],
)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WanRelay_Sample.seed", str(2**63 + 11)),
        ("Sample.seed", str(2**63 + 11)),
        ("Wan Relay: Sample.seed", "7"),
        ("mine.seed", "31"),
        ("inner.filename_prefix", None),
    ],
)
def test_an_api_client_has_titles_and_classes(workflow: Any, name: str, text: str | None) -> None:
    assert widget_value(PROMPT, workflow, *name.split(".")) == text


def test_a_graph_that_holds_itself_is_no_graph() -> None:
    own = {"nodes": [drawn(1, "a")], "definitions": {"subgraphs": [{"id": "a", "nodes": [drawn(6, "a", "lost")]}]}}
    assert widget_value(PROMPT, own, "lost", "seed") is None
    assert widget_value({"1": {"class_type": "A", "inputs": {"b": 1}, "_meta": "x"}}, own, "A", "b") == "1"
