"""The editor's app mode: a form without a graph, from which a person who has wired nothing makes a video."""

import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE

pytest.importorskip("playwright")

from wan_relay.tests.browser.editor import Editor

ROOT = Path(__file__).resolve().parents[2]
FORM = "[data-testid=linear-widgets]"
RUN = "[data-testid=linear-run-button] button, button[data-testid=linear-run-button]"


def test_a_picture_and_a_prompt_in_the_form_become_a_video(server: Any, browser: Any) -> None:
    editor = Editor(browser, server.url)
    try:
        editor.set_up()
        editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))
        editor.run("await app.extensionManager.command.execute('Comfy.ToggleLinear');")
        page = editor.page
        tour = page.get_by_test_id("coach-landing")  # the newest editor's, on a first visit
        page.add_locator_handler(tour, lambda: tour.get_by_role("button", name="Skip").click())
        form = page.locator(FORM)
        form.wait_for()
        labels = [label.strip() for label in form.get_by_test_id("builder-widget-label").all_inner_texts()]
        assert labels == ["image", "prompt", "width", "height", "length", "seed"]

        form.locator("input[type=file]").first.set_input_files(EXAMPLE_IMAGE)
        form.locator("textarea").first.fill("pan left")
        for label, value in (("width", 64), ("height", 48), ("length", 5), ("seed", 11)):
            row = form.get_by_test_id("app-mode-widget-item").nth(labels.index(label))
            field = row.locator("input:not([type=file])").first
            field.fill(str(value))
            field.press("Enter")
        editor.wait("find('LoadImage')[0].widgets[0].value.startsWith(argument)", EXAMPLE_IMAGE.stem)
        page.locator(RUN).last.click()
        page.wait_for_function(
            "() => [...document.querySelectorAll('video')].some((video) => video.videoWidth === 64)", polling=200
        )
        sent = [said(entry) for entry in server.get("/history").values()]
        assert sent[-1] == {"prompt": "pan left", "seed": 11, "width": 64, "height": 48, "length": 5}
        assert editor.errors == []
    finally:
        editor.close()


def said(entry: dict[str, Any]) -> dict[str, Any]:
    """What the form's fields were sent as."""
    nodes = {node["class_type"]: node["inputs"] for node in entry["prompt"][2].values()}
    size = nodes.get("WanRelay_PrepareLatent", {})
    return {
        "prompt": nodes.get("WanRelay_EncodePrompts", {}).get("prompt"),
        "seed": nodes.get("WanRelay_Sample", {}).get("seed"),
        **{name: size.get(name) for name in ("width", "height", "length")},
    }
