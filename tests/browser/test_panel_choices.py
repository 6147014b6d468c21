"""What the panels offer to choose: presets, sizes, the part that a crop keeps, and to go on from a video."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from wan_relay.nodes.rules.relay.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
MODES = [pytest.param(False, id="classic"), pytest.param(True, id="nodes_2")]


def load(editor: Any) -> None:
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))


def inputs_of(editor: Any, node_type: str) -> dict[str, Any]:
    return next(node["inputs"] for node in editor.export().values() if node["class_type"] == node_type)


@pytest.mark.parametrize("nodes_2", MODES)
def test_a_preset_sets_the_fields_and_says_which(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    presets = editor.page.locator(".wan-relay select.presets:visible")
    presets.wait_for()
    assert presets.locator("option").count() == len(PRESETS)
    assert presets.input_value() == "four_steps"  # what the template is set to
    presets.select_option("base_high")
    editor.wait_for_panel(
        "WanRelay_Sample",
        "Set: steps 8, high_noise_cfg 3.5, low_noise_cfg 1, sampler euler, scheduler simple, shift 5, switch step, "
        "switch_step 4",
    )
    editor.wait_for_panel("WanRelay_Sample", "4 high, 4 low")
    assert PRESETS["base_high"].items() <= inputs_of(editor, "WanRelay_Sample").items()
    editor.set_widgets("WanRelay_Sample", {"steps": 9})
    editor.wait_until_panel_lacks("WanRelay_Sample", "Set: ")
    assert presets.input_value() == ""


def test_another_schedule_can_be_kept_to_compare_with(editor: Any) -> None:
    load(editor)
    button = editor.page.locator(".wan-relay button.compare:visible")
    button.click()
    kept = "[...document.querySelectorAll('.wan-relay .kept')].map(({ style }) => style.bottom)"
    editor.wait(f"{kept}.length === 4")
    before = editor.run(f"return {kept};")
    editor.set_widgets("WanRelay_Sample", {"steps": 8, "shift": 12, "switch_step": 3})
    editor.wait_for_panel("WanRelay_Sample", "3 high, 5 low")
    assert editor.run(f"return {kept};") == before
    heights = "return [...document.querySelectorAll('.wan-relay .bar')].map(({ style }) => style.height);"
    assert len(editor.run(heights)) == 8
    button.click()
    editor.wait(f"!{kept}.length")


@pytest.mark.parametrize("nodes_2", MODES)
def test_sizes_are_chosen_by_budget_and_a_crop_by_its_place(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    page = editor.page
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "fixed"})
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 528 x 768")
    page.locator(".wan-relay button.budget:visible", has_text="480p").click()
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 480 x 832")  # upright, as the size was
    page.locator(".wan-relay button.swap:visible").click()
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 832 x 480")
    kept = ".wan-relay .crop div"
    page.locator(kept).wait_for()
    middle = page.locator(kept).get_attribute("style")
    page.locator(".wan-relay select.crop_position:visible").select_option("bottom")
    editor.wait(f"document.querySelector('{kept}').style.top.startsWith('23.0')")
    assert "top: 11.5" in (middle or "")
    assert inputs_of(editor, "WanRelay_PrepareLatent")["crop_position"] == "bottom"
    editor.set_widgets("WanRelay_PrepareLatent", {"fit": "pad"})
    editor.wait("!document.querySelector('.wan-relay .crop')")


def test_a_batch_becomes_a_file_each_and_the_last_frame_the_next_start(editor: Any, server: Any) -> None:
    load(editor)
    tiny = {"sizing": "fixed", "width": 64, "height": 48, "length": 5, "batch_size": 2}
    editor.set_widgets("WanRelay_PrepareLatent", tiny)
    editor.wait_for_panel("WanRelay_PrepareLatent", "With videos 2, Save Video makes a file of each.")
    editor.set_widgets("WanRelay_SaveVideo", {"videos": 2, "filename_prefix": "video/batch"})
    editor.wait_until_panel_lacks("WanRelay_PrepareLatent", "batch")
    editor.run("app.canvas.centerOnNode(find('WanRelay_SaveVideo')[0]); await app.queuePrompt(0);")
    for name in ("video/batch_00001_.mp4", "video/batch_00002_.mp4"):
        editor.wait_for_panel("WanRelay_SaveVideo", name)
    editor.page.locator(".wan-relay button.go-on:visible").click()
    editor.wait("find('LoadImage')[0].widgets[0].value.startsWith('wan_relay_last_frame')")
    editor.wait_for_panel("WanRelay_PrepareLatent", "64 x 48 to 64 x 48")
    assert inputs_of(editor, "LoadImage")["image"].startswith("wan_relay_last_frame")


def test_a_batch_that_is_interpolated_as_another_number_of_videos_is_a_mistake(editor: Any) -> None:
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_smooth.json").read_text()))
    editor.set_widgets("WanRelay_PrepareLatent", {"batch_size": 2})
    editor.set_widgets("WanRelay_SaveVideo", {"videos": 2})
    editor.wait_for_panel("WanRelay_PrepareLatent", "videos of Interpolate Frames is 1, and the batch has 2.")
    editor.set_widgets("WanRelay_InterpolateFrames", {"videos": 2})
    editor.wait_until_panel_lacks("WanRelay_PrepareLatent", "batch")


def test_a_refusal_before_the_run_is_one_at_the_field_at_fault(editor: Any) -> None:
    load(editor)
    editor.set_widgets("WanRelay_SaveVideo", {"filename_prefix": "../out"})
    editor.run("await app.queuePrompt(0).catch(() => undefined);")
    refused = "Object.values(app.lastNodeErrors ?? {}).flatMap(({ errors }) => errors)"
    editor.wait(f"{refused}.length")
    fields = editor.run(f"return {refused}.map(({{ extra_info }}) => extra_info.input_name);")
    assert fields == ["filename_prefix"]
    editor.errors.clear()  # the editor itself writes a refusal into the console
