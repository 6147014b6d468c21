"""What a person sees: whether a panel's words can be read in every theme (WCAG 2.2, 1.4.3), and a template at once."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

ROOT = Path(__file__).resolve().parents[2]
LEAST_CONTRAST = 4.5
PALETTES = ["dark", "light", "arc", "nord", "github", "solarized"]
LEGS = ("opening", "high", "low")
WORDS = ["words", "warn", "bad", *LEGS]
BARS = [f"bar {leg} {state}".strip() for leg in LEGS for state in ("", "done", "now")]

# Text and background as red, green, blue and alpha, from 0 to 255: read off a canvas, which knows every notation.
COLOURS = """
const panel = find('WanRelay_Sample')[0].widgets.find((w) => w.name.startsWith('wan_relay_')).element;
const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d');
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const colours = (element) => {
  const { color, backgroundColor } = getComputedStyle(element);
  return [rgba(color), rgba(backgroundColor)];
};
const found = { panel: colours(panel) };
for (const name of argument) {
  const element = Object.assign(document.createElement('div'), { className: name });
  panel.append(element);
  found[name] = colours(element);
  element.remove();
}
return found;
"""


def test_every_word_of_a_panel_can_be_read_in_every_theme(editor: Any) -> None:
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))
    dim = {}
    for palette in PALETTES:
        editor.set_up(palette=palette)
        found = editor.run(COLOURS, [*WORDS, *BARS])
        _, panel = found.pop("panel")
        assert panel[3] == 255
        for name, (text, own) in found.items():
            background = over(own, panel)
            if (contrast := contrast_of(over(text, background), background)) < LEAST_CONTRAST:
                dim[palette, name] = round(contrast, 2)
    editor.set_up()
    assert dim == {}


@pytest.mark.parametrize("name", ["wan22_i2v_4step", "wan22_i2v_4step_lora", "wan22_i2v_smooth"])  # two high ones
def test_a_template_opens_on_a_laptop_at_a_size_that_has_texts(editor: Any, name: str) -> None:
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
    usual = editor.page.viewport_size
    editor.page.set_viewport_size({"width": 1366, "height": 768})
    editor.wait("app.canvas.canvas.width === 1366 && app.canvas.canvas.height === 768")
    try:
        editor.run("await app.loadGraphData(argument, true, true, null, { openSource: 'template' });", graph)
        editor.wait_for_panels()
        editor.settle(800)
        assert editor.run("return [app.canvas.ds.scale > 8 / 14, app.canvas.low_quality];") == [True, False]
    finally:
        editor.page.set_viewport_size(usual)


def test_the_editors_list_of_values_shows_values_alone(editor: Any) -> None:
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))
    toggle = editor.page.locator("button[aria-label='Toggle properties panel']")
    toggle.first.click()
    try:
        for kind, field in (("WanRelay_PrepareLatent", "sizing"), ("WanRelay_Sample", "switch_step")):
            editor.run("app.canvas.deselectAll(); app.canvas.selectNode(find(argument)[0]);", kind)
            editor.page.get_by_text(field, exact=True).first.wait_for()
            inner_names = editor.page.get_by_text(re.compile(r"^wan_relay_[a-z]"))  # digits: a saved video's name
            assert inner_names.all_inner_texts() == []
    finally:
        editor.run("app.canvas.deselectAll();")
        toggle.first.click()


def over(front: list[int], back: list[float]) -> list[float]:
    alpha = front[3] / 255
    return [alpha * f + (1 - alpha) * b for f, b in zip(front[:3], back[:3], strict=True)]


def contrast_of(one: list[float], other: list[float]) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(rgb: list[float]) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (v / 255 for v in rgb)
    ]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
