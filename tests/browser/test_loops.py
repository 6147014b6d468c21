"""A graph whose links run in a circle: the editor lets one be drawn, and the panels answer all the same."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

ROOT = Path(__file__).resolve().parents[2]
# Two new nodes of a type that feed each other, and the second of them a node of the graph as well.
CIRCLE = (
    "const { type, links, target, ends, mode } = argument;"
    "const [first, second] = [0, 1].map(() => {"
    "  const node = LiteGraph.createNode(type); app.rootGraph.add(node); node.mode = mode ?? 0; return node; });"
    "for (const [output, input] of links)"
    "  { first.connect(output, second, input); second.connect(output, first, input); }"
    "for (const [output, input] of ends) second.connect(output, find(target)[0], input);"
)


def load(editor: Any) -> None:
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300")
    editor.wait_for_panel("WanRelay_Sample", "2 high, 2 low")


def assert_that_panels_answer(editor: Any) -> None:
    editor.settle(600)
    editor.set_widgets("WanRelay_PrepareLatent", {"length": 49})
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 720 x 544, crop, 49 frames")
    editor.set_widgets("WanRelay_Sample", {"switch_step": 1})
    editor.wait_for_panel("WanRelay_Sample", "1 high, 3 low")


def test_keyframes_in_a_circle_are_each_shown_once(editor: Any) -> None:
    load(editor)
    keyframes = {"type": "WanRelay_Keyframe", "links": [[0, "keyframes"]], "target": "WanRelay_PrepareLatent"}
    editor.run(CIRCLE, {**keyframes, "ends": [[0, "keyframes"]]})
    editor.run("find('WanRelay_Keyframe').forEach((node, i) => (node.widgets[0].value = [20, 40][i]));")
    editor.wait("document.querySelectorAll('.wan-relay .timeline .keyframe').length === 2")
    assert_that_panels_answer(editor)


@pytest.mark.parametrize(
    "circle",
    [
        pytest.param(
            {"type": "WanRelay_ApplyNag", "links": [[0, "high_noise"], [1, "low_noise"]]}
            | {"ends": [[0, "high_noise"], [1, "low_noise"]]},
            id="models",
        ),
        pytest.param(
            {"type": "WanRelay_PrepareLatent", "links": [[1, "negative"]], "ends": [[1, "negative"]]}, id="prompts"
        ),
        pytest.param(
            {"type": "ImageInvert", "links": [[0, 0]], "ends": [[0, "previous"]], "mode": 4}
            | {"target": "WanRelay_PrepareLatent"},
            id="bypassed",
        ),
    ],
)
def test_what_runs_in_a_circle_leaves_the_panels_answering(editor: Any, circle: dict[str, Any]) -> None:
    load(editor)
    editor.run(CIRCLE, {"target": "WanRelay_Sample", **circle})
    assert_that_panels_answer(editor)


def test_opening_legs_in_a_circle_are_not_known(editor: Any) -> None:
    load(editor)
    legs = {"type": "WanRelay_OpeningLeg", "links": [[0, "previous"]], "target": "WanRelay_Sample"}
    editor.run(CIRCLE, {**legs, "ends": [[0, "opening"]]})
    editor.wait_for_panel("WanRelay_Sample", "Known only when it runs: opening.")
    editor.run("find('WanRelay_OpeningLeg')[1].disconnectInput('previous');")
    editor.wait_for_panel("WanRelay_Sample", "1 opening, 1 high, 2 low")


def test_a_panel_that_fails_stops_no_other(editor: Any) -> None:
    load(editor)
    editor.run(
        "const { watch } = await import('/extensions/ComfyUI-WanRelay/live.mjs');"
        "watch(find('LoadImage')[0], () => { throw new Error('a panel at fault'); }, () => undefined);"
        "app.rootGraph.add(LiteGraph.createNode('WanRelay_LoadExperts'));"
    )
    editor.wait(
        "find('WanRelay_LoadExperts')[1].widgets.some((w) => w.element?.textContent.includes('Low noise Wan2.2'))"
    )
    assert [error.splitlines()[0] for error in editor.errors] == ["Error: a panel at fault"]
    editor.errors.clear()
    editor.run("app.rootGraph.remove(find('LoadImage')[0]);")
