"""The graph editor with the pack: templates, panels, a run from the button to the video, languages."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from wan_relay.tests.browser.editor import Editor

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
MODES = [pytest.param(False, id="classic"), pytest.param(True, id="nodes_2")]
HIGH_LORA, LOW_LORA = (f"wan2.2_i2v_lightx2v_4steps_lora_v1_{expert}_noise.safetensors" for expert in ("high", "low"))
TINY = {"sizing": "fixed", "width": 64, "height": 48, "length": 5}


def load(editor: Any, name: str = "wan22_i2v_4step") -> None:
    editor.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text()))


def test_the_pack_asks_for_nothing_until_one_of_its_nodes_is_on_the_canvas(server: Any, browser: Any) -> None:
    editor = Editor(browser, server.url)
    try:
        editor.settle(1000)
        assert [url for url in editor.requests if "WanRelay" in url or "wan_relay/" in url] == [
            "/extensions/ComfyUI-WanRelay/wan_relay.js"
        ]
        editor.run("app.rootGraph.add(LiteGraph.createNode('WanRelay_Sample'));")
        editor.wait_for_panels()
        assert any("wan_relay/schedule?" in url for url in editor.requests)
        assert editor.errors == []
    finally:
        editor.close()


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_opens_without_a_warning_and_exports_the_api_workflow(editor: Any, server: Any, name: str) -> None:
    assert name in server.get("/workflow_templates")["ComfyUI-WanRelay"]
    assert server.request(f"/api/workflow_templates/ComfyUI-WanRelay/{name}.jpg")[:2] == b"\xff\xd8"
    editor.load(server.get(f"/api/workflow_templates/ComfyUI-WanRelay/{name}.json"))
    expected = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
    if name != "wan22_t2v_4step":  # a person's picture keeps its aspect; a client of the API asks for a size
        next(n for n in expected.values() if n["class_type"] == "WanRelay_PrepareLatent")["inputs"]["sizing"] = (
            "match image"
        )
    assert editor.export() == expected
    assert editor.page.locator(".p-dialog, .p-toast-message, [role=alertdialog]").count() == 0
    assert editor.page.locator(".wan-relay .bad").count() == 0


@pytest.mark.parametrize("nodes_2", MODES)
def test_plot_follows_the_widgets(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    editor.wait_for_panel("WanRelay_Sample", "2 high, 2 low · switch after step 2")
    assert bars(editor) == ["high", "high", "low", "low"]
    assert unused(editor) == ["boundary"]
    editor.set_widgets("WanRelay_Sample", {"steps": 40, "scheduler": "official_unipc", "switch": "boundary"})
    editor.wait_for_panel("WanRelay_Sample", "15 high, 25 low · boundary 0.9")
    assert bars(editor) == ["high"] * 15 + ["low"] * 25
    assert unused(editor) == ["switch_step"]
    editor.set_widgets("WanRelay_Sample", {"switch": "step", "switch_step": 41})
    refusal = "switch_step must be between 0 and the number of steps, which is 40, not 41."
    editor.wait_for_panel("WanRelay_Sample", refusal)
    assert editor.panel("WanRelay_Sample").splitlines()[-1] == refusal
    assert "2 high" not in editor.panel("WanRelay_Sample")
    assert bars(editor) == []


def test_plot_reads_values_through_links(editor: Any) -> None:
    load(editor)
    link = (
        "const node = LiteGraph.createNode(argument.type); app.rootGraph.add(node);"
        "if (argument.value) node.widgets[0].value = argument.value;"
        "node.connect(argument.slot, find('WanRelay_Sample')[0], 'steps');"
    )
    editor.run(link, {"type": "PrimitiveInt", "slot": 0, "value": 6})
    editor.wait_for_panel("WanRelay_Sample", "2 high, 4 low")
    editor.run(link, {"type": "GetImageSize", "slot": 0})
    editor.wait_for_panel("WanRelay_Sample", "Known only when it runs: steps.")
    assert bars(editor) == []


@pytest.mark.parametrize("nodes_2", MODES)
def test_a_bar_that_is_pressed_is_where_the_low_noise_expert_begins(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    editor.set_widgets("WanRelay_Sample", {"steps": 6, "switch": "boundary"})
    editor.wait_for_panel("WanRelay_Sample", "boundary 0.9")
    editor.page.locator(".wan-relay .bar:visible").nth(4).dispatch_event("click")
    editor.wait_for_panel("WanRelay_Sample", "4 high, 2 low · switch after step 4")
    assert bars(editor) == ["high"] * 4 + ["low"] * 2


def test_new_experts_begin_with_a_pair_and_one_alone_finds_its_partner(editor: Any) -> None:
    editor.run("app.rootGraph.clear(); app.rootGraph.add(LiteGraph.createNode('WanRelay_LoadExperts'));")
    editor.wait_for_panel("WanRelay_LoadExperts", "Low noise Wan2.2 ")
    assert editor.page.locator(".wan-relay .bad").count() == 0
    load(editor, "wan22_i2v_4step_lora")
    low = "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors"
    editor.set_widgets("WanRelay_LoadExperts", {"low_noise": "none"})
    editor.wait_for_panel("WanRelay_LoadExperts", f"low_noise: use {low}")
    editor.page.locator(".wan-relay button.offer:visible").click()
    editor.wait_for_panel("WanRelay_LoadExperts", "Low noise Wan2.2 I2V")
    assert "use " not in editor.panel("WanRelay_LoadExperts")


def test_plot_shows_the_legs_in_their_colours(editor: Any) -> None:
    load(editor, "wan22_i2v_4step_motion")
    editor.wait_for_panel("WanRelay_Sample", "1 opening, 1 high, 2 low · switch after step 2")
    assert bars(editor) == ["opening", "high", "low", "low"]
    editor.set_widgets("WanRelay_OpeningLeg", {"steps": 3})
    editor.wait_for_panel("WanRelay_Sample", "3 opening, 0 high, 1 low")
    assert bars(editor) == ["opening", "opening", "opening", "low"]
    assert "The opening legs take every step of the high-noise expert" in editor.panel("WanRelay_Sample")
    editor.run("find('WanRelay_OpeningLeg')[0].mode = 2;")
    editor.wait_for_panel("WanRelay_Sample", "2 high, 2 low")


@pytest.mark.parametrize("nodes_2", MODES)
def test_the_settings_that_the_files_authors_recommend_are_one_press_away(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    editor.wait_for_panel("WanRelay_Sample", "2 high, 2 low")
    editor.settle(600)
    assert "Recommended" not in editor.panel("WanRelay_Sample")  # the author says that simple works as well
    editor.set_widgets("WanRelay_Sample", {"scheduler": "beta", "low_noise_cfg": 2.0})
    file = "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors"
    says = f"Recommended for {file}: set low_noise_cfg 1, scheduler linear_quadratic"
    editor.wait_for_panel("WanRelay_Sample", says)
    editor.page.locator(".wan-relay button.preset:visible").click()
    editor.wait_until_panel_lacks("WanRelay_Sample", "Recommended")
    editor.wait_for_panel("WanRelay_Sample", "2 high, 2 low · switch after step 2")
    load(editor, "wan22_i2v_4step_lora")
    editor.set_widgets("WanRelay_ApplyLoraPair", {"is_on": False})
    says = "set steps 40, high_noise_cfg 3.5, low_noise_cfg 3.5, sampler flow_unipc, scheduler official_unipc, "
    says += "switch boundary"
    editor.wait_for_panel("WanRelay_Sample", says)
    editor.page.locator(".wan-relay button.preset:visible").click()
    editor.wait_for_panel("WanRelay_Sample", "15 high, 25 low · boundary 0.9")
    sample = next(node["inputs"] for node in editor.export().values() if node["class_type"] == "WanRelay_Sample")
    assert [sample[name] for name in ("steps", "high_noise_cfg", "sampler", "shift", "switch", "switch_step")] == [
        *(40, 3.5, "flow_unipc", 5, "boundary", 2),
    ]
    editor.set_widgets("WanRelay_ApplyLoraPair", {"is_on": True})
    editor.wait_for_panel("WanRelay_Sample", f"Recommended for {HIGH_LORA}: set steps 4, high_noise_cfg 1")


@pytest.mark.parametrize("nodes_2", MODES)
def test_a_mistake_is_said_on_its_node_before_anything_runs(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    editor.settle(600)
    assert editor.panel("WanRelay_Sample") == "2 high, 2 low · switch after step 2"
    editor.set_widgets("WanRelay_Sample", {"high_noise_cfg": 3.5})
    editor.wait_for_panel(
        "WanRelay_Sample", "high_noise_cfg 3.5 is too much for a distilled expert, which is made for 1."
    )
    editor.set_widgets("WanRelay_Sample", {"high_noise_cfg": 1})
    editor.set_widgets("WanRelay_EncodePrompts", {"negative_prompt": "blurry"})
    editor.wait_for_panel("WanRelay_Sample", "The negative prompt has no effect at cfg 1; Apply NAG or a higher cfg")
    unlink = (
        "const node = find(argument[0])[0]; node.disconnectInput(node.inputs.findIndex((i) => i.name === argument[1]));"
    )
    editor.run(unlink, ["WanRelay_Sample", "low_noise"])
    editor.wait_for_panel("WanRelay_Sample", "low_noise is not connected: one expert takes every step")
    editor.run(unlink, ["WanRelay_PrepareLatent", "start_image"])
    editor.wait_for_panel("WanRelay_PrepareLatent", "need a start or end image: connect one, or choose the T2V pair.")
    editor.set_widgets("VAELoader", {"vae_name": "wan2.2_vae.safetensors"})
    editor.wait_for_panel("WanRelay_PrepareLatent", "The VAE is TI2V-5B's; the A14B experts need wan_2.1_vae.")
    editor.set_widgets("WanRelay_PrepareLatent", {"batch_size": 2})
    editor.wait_for_panel("WanRelay_PrepareLatent", "The 2 videos of the batch follow each other in one file.")


def test_a_base_pair_without_its_lora_and_an_image_for_words_alone_are_mistakes(editor: Any) -> None:
    load(editor, "wan22_i2v_4step_lora")
    editor.settle(600)
    assert editor.panel("WanRelay_Sample") == "2 high, 2 low · switch after step 2"
    editor.set_widgets("WanRelay_ApplyLoraPair", {"is_on": False})
    editor.wait_for_panel("WanRelay_Sample", "4 steps are too few for base experts, which need 20 or more")
    editor.wait_for_panel("WanRelay_Sample", "cfg 1 leaves base experts without guidance")
    load(editor, "wan22_t2v_4step")
    image = "const node = LiteGraph.createNode('LoadImage'); app.rootGraph.add(node);"
    editor.run(image + "node.connect(0, find('WanRelay_PrepareLatent')[0], 'start_image');")
    editor.wait_for_panel("WanRelay_PrepareLatent", "The experts are text-to-video and cannot take an image")


def unused(editor: Any) -> list[str]:
    """The widgets of Sample that are greyed out."""
    return editor.run("return find('WanRelay_Sample')[0].widgets.filter((w) => w.disabled).map((w) => w.name);")


def bars(editor: Any) -> list[str]:
    """The leg of every bar that is drawn, and really on the screen."""
    return editor.page.locator(".wan-relay .bar:visible").evaluate_all("bars => bars.map((bar) => bar.classList[1])")


@pytest.mark.parametrize("nodes_2", MODES)
def test_readout_says_what_will_be_rendered_and_the_lists_set_the_widgets(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 720 x 544, crop, 81 frames")
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "fixed"})
    says = "400 x 300 to 528 x 768, crop, 81 frames, 5.06 s at 16 fps"
    editor.wait_for_panel("WanRelay_PrepareLatent", says)
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "match image", "width": 835, "height": 483, "length": 48})
    inputs = prepare_latent(editor)
    assert (inputs["width"], inputs["height"], inputs["length"]) == (832, 480, 49)  # the fields go by what can be made
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 720 x 544, crop, 49 frames, 3.06 s at 16 fps")
    editor.run(
        "const node = LiteGraph.createNode('PrimitiveInt'); app.rootGraph.add(node); node.widgets[0].value = 80;"
        "node.connect(0, find('WanRelay_PrepareLatent')[0], 'length');"
    )
    editor.wait_for_panel("WanRelay_PrepareLatent", "length 80 is not of the form 4n+1; 81 frames are made.")
    editor.run("app.rootGraph.remove(find('PrimitiveInt')[0]);")
    editor.wait_for_panel("WanRelay_PrepareLatent", "49 frames")

    editor.page.locator(".wan-relay select.resolution").select_option("1280x720")
    durations = editor.page.locator(".wan-relay select.duration")
    durations.focus()
    durations.select_option("113")
    editor.wait_for_panel("WanRelay_PrepareLatent", "113 frames, 7.06 s at 16 fps")
    assert editor.run("return document.activeElement.className;") == "duration"
    inputs = prepare_latent(editor)
    assert (inputs["width"], inputs["height"], inputs["length"]) == (1280, 720, 113)


def prepare_latent(editor: Any) -> dict[str, Any]:
    return next(node["inputs"] for node in editor.export().values() if node["class_type"] == "WanRelay_PrepareLatent")


def test_readout_knows_the_5b_vae_and_the_frame_rate_of_the_graph(editor: Any) -> None:
    load(editor, "wan22_ti2v_5b")
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "fixed"})
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 1280 x 704, crop, 121 frames, 5.04 s at 24 fps")
    editor.set_widgets("WanRelay_PrepareLatent", {"height": 720})
    editor.wait_for_panel("WanRelay_PrepareLatent", "height 720 is not a multiple of 32; 736 is used.")
    editor.wait_for_panel("WanRelay_Sample", "one model, 30 steps")
    editor.set_widgets("WanRelay_Sample", {"switch": "step", "switch_step": 0, "steps": 20})
    editor.wait_for_panel("WanRelay_Sample", "one model, 20 steps")
    assert "expert" not in editor.panel("WanRelay_Sample")


def test_readout_knows_the_rate_of_the_frames_before_they_are_interpolated(editor: Any) -> None:
    load(editor, "wan22_i2v_smooth")
    editor.wait_for_panel("WanRelay_PrepareLatent", "81 frames, 5.06 s at 16 fps")
    editor.set_widgets("WanRelay_InterpolateFrames", {"fps": 20})
    editor.wait_for_panel("WanRelay_PrepareLatent", "81 frames, 4.05 s at 20 fps")
    editor.run("find('WanRelay_SaveVideo')[0].disconnectInput('fps');")
    editor.set_widgets("WanRelay_SaveVideo", {"fps": 480})  # the most that can be saved
    editor.wait_for_panel("WanRelay_PrepareLatent", "81 frames, 0.34 s at 240 fps")
    editor.set_widgets("WanRelay_SaveVideo", {"fps": 32})
    editor.set_widgets("WanRelay_InterpolateFrames", {"factor": 3})
    editor.wait_for_panel("WanRelay_PrepareLatent", "81 frames, 7.59 s at 10.667 fps")
    editor.run("find('WanRelay_InterpolateFrames')[0].mode = 4;")
    editor.wait_for_panel("WanRelay_PrepareLatent", "81 frames, 2.53 s at 32 fps")


@pytest.mark.parametrize("mode", [pytest.param(2, id="muted"), pytest.param(4, id="bypassed")])
def test_an_image_that_will_not_run_is_no_image(editor: Any, mode: int) -> None:
    load(editor)
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 720 x 544")
    editor.run("find('LoadImage')[0].mode = argument;", mode)
    editor.wait_until_panel_lacks("WanRelay_PrepareLatent", "400 x 300")
    mistake = "The experts are image-to-video and need a start or end image: connect one, or choose the T2V pair."
    assert editor.panel("WanRelay_PrepareLatent").splitlines() == ["528 x 768, 81 frames, 5.06 s at 16 fps", mistake]
    editor.run("find('LoadImage')[0].mode = 0;")
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 720 x 544")


def timeline(editor: Any) -> list[str]:
    return editor.page.locator(".wan-relay .timeline i").evaluate_all(
        "parts => parts.map((part) => `${part.className} ${part.title}, ${Math.round(part.clientWidth)}`)"
    )


def test_the_timeline_is_drawn_before_the_run(editor: Any) -> None:
    load(editor)
    editor.set_widgets("WanRelay_PrepareLatent", {"loop": True})
    editor.wait_for_panel("WanRelay_PrepareLatent", "switch on drop_last_frame in Save Video, or it is shown twice.")
    editor.set_widgets("WanRelay_SaveVideo", {"drop_last_frame": True})
    editor.wait_until_panel_lacks("WanRelay_PrepareLatent", "twice")
    editor.run(
        "const nodes = [0, 1].map(() => LiteGraph.createNode('WanRelay_Keyframe'));"
        "nodes.forEach((node, i) => { app.rootGraph.add(node); node.widgets[0].value = [21, -41][i]; });"
        "nodes[0].connect(0, nodes[1], 'keyframes');"
        "nodes[1].connect(0, find('WanRelay_PrepareLatent')[0], 'keyframes');"
    )
    editor.wait_for_panel(
        "WanRelay_PrepareLatent", "keyframe 21 is put at frame 20: the latent grid holds every fourth."
    )
    parts = [part.rsplit(", ", 1) for part in timeline(editor)]
    assert [part for part, _ in parts] == [
        "known known 0-0",
        "unknown to be made 1-19",
        "keyframe keyframe 20-20",
        "unknown to be made 21-39",
        "keyframe keyframe 40-40",
        "unknown to be made 41-79",
        "known known 80-80",
    ]
    widths = [int(width) for _, width in parts]
    assert all(widths)
    assert widths[1] == pytest.approx(widths[5] / 2, rel=0.15)
    editor.set_widgets("WanRelay_Keyframe", {"frame": 40})
    editor.wait_for_panel("WanRelay_PrepareLatent", "keyframe 40 comes to frame 40, which is known already (keyframe).")


def test_the_segments_of_a_long_video_are_drawn_before_the_run(editor: Any) -> None:
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_long.json").read_text()))
    editor.wait_for_panel("WanRelay_PrepareLatent", "2 segments: 81 + 81 frames, 1 shared")
    assert [part.rsplit(", ", 1)[0] for part in timeline(editor)] == [
        "known segment 1: known 0-0",
        "unknown segment 1: to be made 1-79",
        "overlap segment 2: from the clip before 80-80",
        "unknown segment 2: to be made 81-160",
    ]
    editor.set_widgets("WanRelay_LongVideo", {"prompts": "a\n\nb\nc", "overlap": 5})
    editor.wait_for_panel("WanRelay_PrepareLatent", "3 segments: 57 + 57 + 57 frames, 5 shared")
    editor.set_widgets("WanRelay_LongVideo", {"lengths": "81, 49"})
    editor.wait_for_panel("WanRelay_PrepareLatent", "prompts must be at most as many as lengths, which are 2; got 3.")
    editor.set_widgets("WanRelay_LongVideo", {"lengths": "81, 49, 13"})
    editor.wait_for_panel("WanRelay_PrepareLatent", "133 frames")
    editor.set_widgets("WanRelay_LongVideo", {"lengths": "", "prompts": "a\nb", "overlap": 1})
    editor.wait_for_panel("WanRelay_PrepareLatent", "2 segments: 81 + 81 frames, 1 shared")
    editor.run("find('WanRelay_LongVideo')[0].disconnectInput('latent');")
    editor.wait_until_panel_lacks("WanRelay_PrepareLatent", "segments")


def test_a_bypassed_node_hands_its_input_on(editor: Any) -> None:
    load(editor)
    editor.run(
        "const invert = LiteGraph.createNode('ImageInvert'), prepare = find('WanRelay_PrepareLatent')[0];"
        "app.rootGraph.add(invert); find('LoadImage')[0].connect(0, invert, 0);"
        "invert.connect(0, prepare, 'start_image');"
        "prepare.widgets.find((w) => w.name === 'sizing').value = 'match image';"
    )
    editor.wait_for_panel("WanRelay_PrepareLatent", "Known only when it runs: start_image.")
    editor.run("find('ImageInvert')[0].mode = 4;")
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 720 x 544")


def test_a_painted_mask_keeps_the_image_known(editor: Any, server: Any) -> None:
    folder = server.base / "input" / "clipspace"
    folder.mkdir(exist_ok=True)
    shutil.copy(server.base / "input" / "example.png", folder / "painted.png")
    load(editor)
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "fixed", "width": 64, "height": 64})
    editor.run("find('LoadImage')[0].widgets[0].value = 'clipspace/painted.png [input]';")
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 64 x 64")


def test_values_on_a_subgraph_node_are_known_inside_and_its_panels_end_with_it(editor: Any) -> None:
    load(editor)
    editor.run(
        "const node = find('WanRelay_Sample')[0];"
        "const { subgraph, node: host } = app.rootGraph.convertToSubgraph(new Set([node]));"
        "const inner = subgraph.nodes[0];"
        "const slot = inner.inputs.find((input) => input.name === 'steps');"
        "subgraph.addInput('steps', 'INT').connect(slot, inner);"
        "window.inner = inner; window.host = host; window.ended = [];"
        "const { api } = window.comfyAPI.api, remove = api.removeEventListener;"
        "api.removeEventListener = function (name, ...rest) {"
        "  window.ended.push(name); return remove.call(this, name, ...rest); };"
    )
    inner = "window.inner.widgets.find((w) => w.name.startsWith('wan_relay_'))?.element.textContent"
    editor.wait(f"{inner}?.includes('2 high, 2 low')")
    editor.run(
        "const { host } = window; const input = host.inputs.find((each) => each.name === 'steps');"
        "host.getWidgetFromSlot(input).value = 6;"
    )
    editor.wait(f"{inner}?.includes('2 high, 4 low')")
    editor.run("app.rootGraph.clear(); app.rootGraph.add(LiteGraph.createNode('WanRelay_Sample'));")
    editor.wait("window.ended.includes('progress')")


def test_files_are_asked_for_again_on_r_and_everything_after_a_failure(editor: Any) -> None:
    load(editor)
    asked = sum("wan_relay/experts?" in url for url in editor.requests)
    editor.run("await app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions');")
    editor.settle(1500)
    assert sum("wan_relay/experts?" in url for url in editor.requests) == asked + 1
    editor.page.route("**/wan_relay/schedule?*", lambda route: route.fulfill(status=502, body="<html>"))
    editor.set_widgets("WanRelay_Sample", {"steps": 8})
    editor.wait_for_panel("WanRelay_Sample", "502")
    editor.page.unroute("**/wan_relay/schedule?*")
    editor.wait_for_panel("WanRelay_Sample", "2 high, 6 low")
    assert all("502" in error for error in editor.errors)
    editor.errors.clear()


def test_what_a_run_found_is_said_until_something_is_changed(editor: Any) -> None:
    load(editor)
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "fixed"})
    editor.settle(800)
    editor.run(
        "find('WanRelay_SaveVideo')[0].onExecuted({ wan_relay: [{ warnings: ['padded'] }] });"
        "find('WanRelay_EncodePrompts')[0].onExecuted({ wan_relay: [{ cached: true, warnings: [] }] });"
        "find('WanRelay_PrepareLatent')[0].onExecuted({ wan_relay: [argument] });",
        {"width": 528, "height": 768, "length": 81, "fit": "crop", "batch_size": 1, "image_width": 400}
        | {"image_height": 300, "warnings": [], "found": ["one file"]},
    )
    editor.wait_for_panel("WanRelay_SaveVideo", "padded")
    editor.wait_for_panel("WanRelay_EncodePrompts", "The prompts came from disk; the text encoder was not loaded.")
    editor.wait_for_panel("WanRelay_PrepareLatent", "one file")
    editor.set_widgets("WanRelay_PrepareLatent", {"length": 49})
    editor.wait_for_panel("WanRelay_PrepareLatent", "49 frames, 3.06 s")
    assert "one file" not in editor.panel("WanRelay_PrepareLatent")


@pytest.mark.parametrize("nodes_2", MODES)
def test_files_are_checked_as_soon_as_they_are_chosen(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor, "wan22_i2v_4step_lora")
    for node, line in (
        ("LoadExperts", r"Low noise Wan2\.2 I2V · \w+ · \d+\.\d MB"),
        ("ApplyLoraPair", r"Low noise \d+ layers"),
    ):
        editor.wait_for_panel(f"WanRelay_{node}", "Low noise")
        assert re.search(line, editor.panel(f"WanRelay_{node}"))
    high = "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors"
    assert any("wan_relay/loras?" in url and f"&high_noise={high}&" in url for url in editor.requests)
    editor.set_widgets("WanRelay_LoadExperts", {"low_noise": high})
    editor.wait_for_panel("WanRelay_LoadExperts", "holds the same weights")
    assert editor.page.locator(".wan-relay .bad:visible").count() >= 1
    editor.set_widgets("WanRelay_LoadExperts", {"low_noise": "gone.safetensors"})
    editor.wait_for_panel("WanRelay_LoadExperts", "The file gone.safetensors is missing.")


@pytest.mark.parametrize("nodes_2", MODES)
def test_rows_of_loras_are_checked_and_a_file_finds_its_partner(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor, "wan22_i2v_4step_lora")
    editor.set_widgets("WanRelay_ApplyLoraPair", {"pairs": "3"})
    editor.set_widgets("WanRelay_ApplyLoraPair", {"pairs.high_noise_lora_2": HIGH_LORA, "pairs.is_on_3": False})
    editor.wait_for_panel("WanRelay_ApplyLoraPair", f"low_noise_lora_2: use {LOW_LORA}")
    editor.page.locator(".wan-relay button.offer:visible").click()
    editor.wait_for_panel("WanRelay_ApplyLoraPair", "2. Low noise 40 layers")
    assert "use " not in editor.panel("WanRelay_ApplyLoraPair")
    rows = {"high_noise_lora_2": HIGH_LORA, "low_noise_lora_2": LOW_LORA, "is_on_2": True}
    assert rows.items() <= further_rows(editor).items()
    editor.set_widgets("WanRelay_ApplyLoraPair", {"pairs.low_noise_strength_2": 0.5})
    editor.settle(600)
    editor.set_widgets("WanRelay_ApplyLoraPair", {"pairs": "2"})
    editor.wait(widget_is, ["pairs.low_noise_strength_2", 0.5])
    kept = {**rows, "low_noise_strength_2": 0.5}
    assert kept.items() <= further_rows(editor).items()
    assert not any(name.endswith("_3") for name in further_rows(editor))
    editor.load(editor.graph())
    assert kept.items() <= further_rows(editor).items()


widget_is = "find('WanRelay_ApplyLoraPair')[0].widgets.find((w) => w.name === argument[0])?.value === argument[1]"


def further_rows(editor: Any) -> dict[str, Any]:
    """What the rows after the first are sent with."""
    inputs = next(node["inputs"] for node in editor.export().values() if node["class_type"] == "WanRelay_ApplyLoraPair")
    return {name.removeprefix("pairs."): value for name, value in inputs.items() if name.startswith("pairs.")}


def test_a_graph_from_before_there_were_rows_opens_as_one_row(editor: Any) -> None:
    graph = json.loads((ROOT / "workflows" / "wan22_i2v_4step_lora.json").read_text())
    [node] = [each for each in graph["nodes"] if each["type"] == "WanRelay_ApplyLoraPair"]
    node["widgets_values"] = [HIGH_LORA, LOW_LORA, 0.5, 0.75]
    node["inputs"] = [each for each in node["inputs"] if each["name"] not in ("is_on", "pairs")]
    node["outputs"] = node["outputs"][:3]
    editor.load(graph)
    exported = editor.export()
    inputs = next(each["inputs"] for each in exported.values() if each["class_type"] == "WanRelay_ApplyLoraPair")
    loader = next(key for key, each in exported.items() if each["class_type"] == "WanRelay_LoadExperts")
    assert inputs == {
        "high_noise": [loader, 0],
        "low_noise": [loader, 1],
        "high_noise_lora": HIGH_LORA,
        "low_noise_lora": LOW_LORA,
        "high_noise_strength": 0.5,
        "low_noise_strength": 0.75,
        "is_on": True,
        "pairs": "1",
    }


def test_trigger_words_are_shown_and_can_be_copied(editor: Any, server: Any) -> None:
    from safetensors.torch import load_file, save_file

    path = server.base / "models" / "loras" / "orbit.safetensors"
    save_file(load_file(path.with_name(HIGH_LORA)), path, {"modelspec.trigger_phrase": "orbit 360, <b>slow</b>"})
    load(editor, "wan22_i2v_4step_lora")
    editor.run("await app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions');")
    editor.set_widgets("WanRelay_ApplyLoraPair", {"pairs": "2"})
    editor.set_widgets("WanRelay_ApplyLoraPair", {"pairs.high_noise_lora_2": "orbit.safetensors"})
    editor.wait_for_panel("WanRelay_ApplyLoraPair", "Trigger words: orbit 360, <b>slow</b>")
    editor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.page.locator(".wan-relay button.copy:visible").click()
    editor.wait("getSelection().toString() === 'orbit 360, <b>slow</b>'")
    assert editor.run("return await navigator.clipboard.readText();") == "orbit 360, <b>slow</b>"


@pytest.mark.parametrize("nodes_2", MODES)
def test_a_run_shows_its_steps_and_plays_the_video(editor: Any, server: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    editor.set_widgets("WanRelay_PrepareLatent", TINY)
    editor.set_widgets("WanRelay_Sample", {"seed": 7 + nodes_2, "steps": 10, "switch_step": 5})
    editor.run("await app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', 'latent2rgb');")
    editor.wait_for_panel("WanRelay_PrepareLatent", "400 x 300 to 64 x 48")
    editor.run(
        "const image = LiteGraph.createNode('EmptyImage'); app.rootGraph.add(image);"
        "image.widgets[0].value = 300; image.widgets[1].value = 200;"
        "image.connect(0, find('WanRelay_PrepareLatent')[0], 'start_image');"
    )
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "match image"})
    editor.wait_for_panel("WanRelay_PrepareLatent", "Known only when it runs: start_image.")
    editor.wait_for_panel("WanRelay_Sample", "5 high, 5 low")
    editor.watch_run("WanRelay_Sample")
    editor.run("const video = find('WanRelay_SaveVideo')[0]; app.canvas.centerOnNode(video);")
    editor.page.get_by_test_id("queue-button").click()
    editor.wait_for_panel("WanRelay_Sample", "High noise ")
    editor.page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some((video) => video.videoWidth === 64)", polling=200
    )
    editor.page.wait_for_function("() => document.querySelector('video').currentTime > 0.05", polling=50)
    seen, previews = editor.seen_in_run()
    steps = [f"Step {n} of 10, {'high' if n <= 5 else 'low'}-noise expert" for n in range(1, 11)]
    shown = [text for text in seen if text.startswith("Step ")]
    assert shown == [step for step in steps if step in shown]  # the server leaves out steps shorter than 0.1 s
    assert (shown[0], shown[-1]) == (steps[0], steps[-1])
    assert previews > 0
    editor.wait_for_panel("WanRelay_SaveVideo", "64 x 32, 5 frames, 0.31 s at 16 fps, 0.0")
    editor.wait("[...document.querySelectorAll('video')].some((v) => v.muted && v.loop && !v.paused)")
    editor.set_widgets("WanRelay_Sample", {"seed": 1, "control_after_generate": "randomize"})
    editor.page.locator(".wan-relay button.use-seed:visible").click()
    seeds = "return find('WanRelay_Sample')[0].widgets.filter((w) => /seed|generate/.test(w.name)).map((w) => w.value);"
    assert editor.run(seeds) == [7 + nodes_2, "fixed"]
    assert core_text(editor, "WanRelay_Sample") is None  # the panel says it, in the user's language
    editor.wait_for_panel("WanRelay_PrepareLatent", "300 x 200 to 64 x 32, crop, 5 frames")

    [item] = newest_images(server)
    drop_file(editor, server, item)
    editor.wait("app.rootGraph.nodes.some((node) => node.type === 'WanRelay_Sample')")
    editor.wait_for_panels()
    inputs = next(node["inputs"] for node in editor.export().values() if node["class_type"] == "WanRelay_Sample")
    assert inputs["seed"] == item["seed"] == 7 + nodes_2


def test_a_refusal_of_a_run_stands_on_its_node_until_the_next_run(editor: Any) -> None:
    editor.set_up(nodes_2=True)
    load(editor)
    editor.set_widgets("WanRelay_PrepareLatent", TINY)
    editor.run(
        "const node = find('WanRelay_PrepareLatent')[0];"
        "node.disconnectInput(node.inputs.findIndex((input) => input.name === 'start_image'));"
    )
    editor.wait_for_panel("WanRelay_PrepareLatent", "64 x 48, 5 frames")
    editor.run("await app.queuePrompt(0);")
    refusal = "positive must carry a start or end image for an I2V pair"
    editor.wait_for_panel("WanRelay_Sample", refusal)
    assert refusal in editor.page.locator(".wan-relay .failure:visible").inner_text()
    editor.set_widgets("WanRelay_Sample", {"shift": 6})
    editor.wait_for_panel("WanRelay_Sample", refusal)
    editor.run(
        "find('LoadImage')[0].connect(0, find('WanRelay_PrepareLatent')[0], 'start_image'); await app.queuePrompt(0);"
    )
    editor.wait("!document.querySelector('.wan-relay .failure')")
    editor.wait_for_panel("WanRelay_Sample", "High noise ")
    editor.errors.clear()  # the editor itself writes a refusal into the console


def test_what_a_run_reported_stays_when_the_answer_to_its_own_schedule_comes_late(editor: Any) -> None:
    """A server that samples answers late; it did so after the run at times, and the seconds of the run were gone."""
    editor.set_up()
    load(editor)
    editor.set_widgets("WanRelay_PrepareLatent", TINY)
    editor.settle()
    editor.run(
        "const fetch = window.fetch; const late = new Promise((resolve) => (window.release = resolve));"
        "window.fetch = async (url, ...rest) => {"
        "  if (String(url).includes('wan_relay/schedule')) { window.isHeld = true; await late; }"
        "  return fetch(url, ...rest);"
        "};"
    )
    editor.set_widgets("WanRelay_Sample", {"shift": 6})
    editor.wait("window.isHeld")
    editor.run("await app.queuePrompt(0);")
    editor.wait_for_panel("WanRelay_Sample", "High noise ")
    editor.run("window.release();")
    editor.settle(1000)
    assert "High noise " in editor.panel("WanRelay_Sample")
    editor.set_widgets("WanRelay_Sample", {"shift": 7})
    editor.wait_until_panel_lacks("WanRelay_Sample", "High noise ")


def core_text(editor: Any, node_type: str) -> str | None:
    """What the editor's own text preview under the first node of a type says; None where there is none."""
    return editor.run(
        "return find(argument)[0].widgets?.find((w) => w.name === '$$node-text-preview')?.value ?? null;", node_type
    )


@pytest.mark.parametrize("nodes_2", MODES)
def test_the_editors_own_text_preview_is_left_alone(editor: Any, nodes_2: bool) -> None:
    editor.set_up(nodes_2=nodes_2)
    load(editor)
    for node_type in ("WanRelay_Sample", "WanRelay_SaveVideo", "VAEDecode"):
        editor.run(
            "const nodeId = String(find(argument)[0].id);"
            "window.comfyAPI.api.api.dispatchCustomEvent('progress_text', { nodeId, text: `about ${argument}` });",
            node_type,
        )
        editor.settle()
        assert core_text(editor, node_type) == f"about {node_type}"
    editor.wait_for_panel("WanRelay_Sample", "2 high, 2 low")


def test_a_sampler_without_a_panel_says_which_expert_answers(editor: Any) -> None:
    """Guider and Schedule in core's SamplerCustomAdvanced, in place of Sample."""
    graph = json.loads((ROOT / "workflows" / "api" / "wan22_i2v_4step.json").read_text())
    node = {each["class_type"]: each["inputs"] for each in graph.values()}
    del node["WanRelay_SaveVideo"]["report"]
    node["WanRelay_PrepareLatent"] |= TINY
    given = dict(node["WanRelay_Sample"])
    experts = ("high_noise", "low_noise", "positive", "negative", "high_noise_cfg", "low_noise_cfg")
    split = ("switch", "boundary", "switch_step", "shift")
    steps = ("steps", "scheduler", "sampler", "shift", "denoise")
    graph |= {
        "6": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"guider": ["9", 0], "sigmas": ["10", 0], "sampler": ["11", 0], "noise": ["12", 0]}
            | {"latent_image": given["latent"]},
        },
        "9": {"class_type": "WanRelay_Guider", "inputs": {name: given[name] for name in experts + split}},
        "10": {
            "class_type": "WanRelay_Schedule",
            "inputs": {name: given[name] for name in steps} | {"model": given["high_noise"]},
        },
        "11": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "12": {"class_type": "RandomNoise", "inputs": {"noise_seed": 11}},
    }
    editor.load(graph)
    editor.run(
        "window.texts = [];"
        "window.comfyAPI.api.api.addEventListener('progress_text', ({ detail: { nodeId, text } }) => {"
        "  const shown = find('SamplerCustomAdvanced')[0].widgets.map((w) => w.value);"
        "  window.texts.push([nodeId, text, shown.includes(text)]); });"
        "app.canvas.centerOnNode(find('WanRelay_SaveVideo')[0]); await app.queuePrompt(0, 1);"
    )
    editor.wait("[...document.querySelectorAll('video')].some((video) => video.videoWidth === 64)")
    texts = ["high-noise expert from sigma 1.0000", "low-noise expert from sigma 0.8333"]
    assert editor.run("return window.texts;") == [["6", text, True] for text in texts]


def newest_images(server: Any) -> list[dict[str, Any]]:
    entry = list(server.get("/history").values())[-1]
    return [item for output in entry["outputs"].values() for item in output.get("images", []) if "fps" in item]


def drop_file(editor: Any, server: Any, item: dict[str, Any]) -> None:
    """Drop the saved video onto an empty canvas, as a user drags it in from a folder."""
    editor.run("app.rootGraph.clear();")
    path = f"/api/view?filename={item['filename']}&subfolder={item['subfolder']}&type={item['type']}"
    editor.run(
        "const blob = await (await fetch(argument.path)).blob();"
        "const transfer = new DataTransfer();"
        "transfer.items.add(new File([blob], argument.name, { type: 'video/mp4' }));"
        "const canvas = document.querySelector('#graph-canvas');"
        "for (const kind of ['dragover', 'drop'])"
        "  canvas.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer }));",
        {"path": path, "name": item["filename"]},
    )


@pytest.mark.parametrize(
    ("language", "split"),
    [
        ("ru", "высокий шум: 2, низкий шум: 2 · переключение после шага 2"),
        ("zh", "高噪 2 步，低噪 2 步 · 第 2 步后切换"),
        ("ko", "고노이즈 2스텝, 저노이즈 2스텝 · 2스텝 이후 전환"),
    ],
)
def test_panels_speak_the_users_language(editor: Any, language: str, split: str) -> None:
    load(editor)
    editor.set_up(language=language)
    editor.wait_for_panel("WanRelay_Sample", split)


def test_nodes_carry_the_names_of_the_users_language(editor: Any, server: Any, browser: Any) -> None:
    names = json.loads((ROOT / "locales" / "ru" / "nodeDefs.json").read_text())
    editor.set_up(language="ru")
    page = Editor(browser, server.url)  # the editor names its node types once a page
    try:
        title = "return LiteGraph.createNode(argument).title;"
        assert {node: page.run(title, node) for node in names} == {
            node: texts["display_name"] for node, texts in names.items()
        }
        label = "return LiteGraph.createNode('WanRelay_Sample').widgets.find((w) => w.name === 'shift').label;"
        assert page.run(label) == names["WanRelay_Sample"]["inputs"]["shift"]["name"]
        row = "const node = LiteGraph.createNode('WanRelay_ApplyLoraPair'); app.rootGraph.add(node);"
        row += "node.widgets.find((w) => w.name === 'pairs').value = '2';"
        row += "return node.widgets.find((w) => w.name === 'pairs.low_noise_lora_2').label;"
        of_row = names["WanRelay_ApplyLoraPair"]["inputs"]["pairs_low_noise_lora_2"]["name"]
        assert page.run(row) == of_row
    finally:
        page.close()


def test_nothing_of_the_panels_is_saved_or_sent(editor: Any) -> None:
    load(editor)
    for node in editor.graph()["nodes"]:
        if node["type"].startswith("WanRelay_"):
            schema_widgets = editor.run(
                "return find(argument)[0].widgets.filter((w) => !w.name.startsWith('wan_relay_')).length;", node["type"]
            )
            assert len(node["widgets_values"]) == schema_widgets
    assert "wan_relay_" not in json.dumps([list(node["inputs"]) for node in editor.export().values()])


def test_a_node_keeps_its_height_when_the_graph_is_opened_again(editor: Any) -> None:
    load(editor)
    first = graph_at_rest(editor)
    editor.load(first)
    sizes = [{node["id"]: node["size"] for node in graph["nodes"]} for graph in (first, graph_at_rest(editor))]
    assert sizes[1] == sizes[0]


def graph_at_rest(editor: Any) -> dict[str, Any]:
    """Once nothing in it has changed for 800 ms: panels grow when the server has answered."""
    graphs = [editor.graph()]
    for _ in range(20):
        editor.settle(800)
        graphs.append(editor.graph())
        if graphs[-1] == graphs[-2]:
            return graphs[-1]
    raise AssertionError("the graph does not come to rest")


def test_a_panel_that_grows_is_no_step_of_undo(editor: Any) -> None:
    load(editor)
    editor.settle(800)
    tracker = "const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;"
    capture = f"{tracker} tracker.captureCanvasState(); return [tracker.undoQueue.length, tracker.redoQueue.length];"
    steps, _ = editor.run(capture)
    editor.set_widgets("WanRelay_PrepareLatent", {"batch_size": 2})
    assert editor.run(capture) == [steps + 1, 0]
    editor.wait_for_panel("WanRelay_PrepareLatent", "The 2 videos of the batch follow each other in one file.")
    editor.settle()
    assert editor.run(capture) == [steps + 1, 0]
    editor.run(f"{tracker} await tracker.undo();")
    editor.settle(1500)
    assert editor.run(capture) == [steps, 1]
