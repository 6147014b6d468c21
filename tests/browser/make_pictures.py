"""Makes the pictures of the project: template thumbnails, the pictures of the README, the registry's icon and banner.

Run it with `python3 dev.py run tests.browser.make_pictures URL` where URL is a running ComfyUI with this pack, in which
the model files of the workflows exist (small ones will do) and input/example.png is a photograph.
"""

import base64
import html
import io
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser

from ...tools.toy_workflows import opening_steps
from .editor import Editor, chromium
from .template_notes import ABOUT

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs"
SIGMAS = (1.0, 0.9375, 0.8333, 0.625)  # 4 steps, simple, shift 5: the schedule of the main workflow
OPENING, HIGH, LOW = "#a3cf6b", "#f0994d", "#5fb0f2"

BARS = "".join(
    f'<div style="flex:1; height:{100 * sigma}%; border-radius:8% 8% 0 0; background:{colour}"></div>'
    for sigma, colour in zip(SIGMAS, (HIGH, HIGH, LOW, LOW), strict=True)
)
ICON = f"""<body style="margin:0; background:#16181d"><div style="box-sizing:border-box; width:400px; height:400px;
padding:64px 56px; display:flex; gap:12px; align-items:flex-end">{BARS}</div>"""
BANNER = f"""<body style="margin:0; background:#16181d; color:#fff; font-family:sans-serif">
<div style="box-sizing:border-box; width:1680px; height:720px; padding:120px 110px; display:flex; gap:110px">
<div style="width:520px; display:flex; gap:14px; align-items:flex-end">{BARS}</div>
<div style="flex:1; align-self:center"><div style="font-size:112px; font-weight:700">Wan Relay</div>
<div style="font-size:44px; line-height:1.35; color:#c9cdd6; margin-top:20px">Wan2.2 image-to-video:<br>
<span style="color:{HIGH}">high noise</span> lays out the motion,<br>
<span style="color:{LOW}">low noise</span> draws the detail,<br>one sampler run.</div></div></div>"""


def main(url: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    with chromium() as browser:
        (PICTURES / "icon.png").write_bytes(draw(browser, ICON, 400, 400))
        (PICTURES / "banner.png").write_bytes(draw(browser, BANNER, 1680, 720))
        for path in sorted((ROOT / "workflows" / "api").glob("*.json")):
            png = draw(browser, thumbnail(url, path.stem, json.loads(path.read_text())), 480, 480)
            save_jpg(png, ROOT / "workflows" / f"{path.stem}.jpg", width=480)
        editor = Editor(browser, url, scale=2)
        editor.set_up()
        for name in ("Comfy.Minimap.Visible", "Comfy.RightSidePanel.IsOpen"):
            editor.run("await app.extensionManager.setting.set(argument, false);", name)
        editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))
        save_jpg(graph_picture(editor), PICTURES / "workflow.jpg", width=1800)
        for kind in ("LoadExperts", "PrepareLatent", "Sample"):
            save_jpg(node_picture(editor, f"WanRelay_{kind}"), PICTURES / f"{kind}.jpg", width=800)
        save_jpg(run_picture(editor), PICTURES / "run.jpg", width=1200)
        editor.close()


def draw(browser: Browser, content: str, width: int, height: int) -> bytes:
    """A page of our own as a PNG."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_content(content)
    png = page.screenshot()
    page.close()
    return png


def thumbnail(url: str, name: str, workflow: dict[str, Any]) -> str:
    """A square page for the template browser: what goes in, the title, the schedule as the server plans it."""
    inputs = {node["class_type"]: node["inputs"] for node in workflow.values()}
    sample = {key: value for key, value in inputs["WanRelay_Sample"].items() if not isinstance(value, list)}
    if steps := opening_steps(workflow):
        sample["opening"] = ",".join(map(str, steps))
    with urllib.request.urlopen(f"{url}/wan_relay/schedule?{urllib.parse.urlencode(sample)}", timeout=60) as response:
        plan = json.load(response)
    num_opening = sum(plan["n_opening"])
    num_high = num_opening + plan["n_high"] if "low_noise" in inputs["WanRelay_Sample"] else len(plan["sigmas"])
    colours = [
        OPENING if step < num_opening else HIGH if step < num_high else LOW for step in range(len(plan["sigmas"]))
    ]
    bars = "".join(
        f'<div style="flex:1; height:{100 * sigma}%; background:{colour}"></div>'
        for sigma, colour in zip(plan["sigmas"][:-1], colours, strict=False)
    )
    num_images = sum(node["class_type"] == "LoadImage" for node in workflow.values())
    photo = base64.b64encode((ROOT / "tests" / "data" / "coffee.jpg").read_bytes()).decode()
    image = f'<img src="data:image/jpeg;base64,{photo}" style="flex:1; min-width:0; object-fit:cover; height:100%">'
    prompt = inputs["WanRelay_EncodePrompts"]["prompt"]
    source = image * num_images or f'<div style="padding:28px; font-style:italic">{html.escape(prompt[:150])}…</div>'
    return f"""<body style="margin:0; background:#16181d; color:#fff; font:26px/1.3 sans-serif">
    <div style="height:240px; display:flex; gap:4px; overflow:hidden">{source}</div>
    <div style="height:84px; padding:10px 20px; box-sizing:border-box; font-size:25px">{ABOUT[name][0]}</div>
    <div style="height:140px; margin:0 20px; display:flex; gap:1px; align-items:flex-end">{bars}</div>"""


def graph_picture(editor: Editor) -> bytes:
    """The whole graph, without the menus around it."""
    left, top, width, height = bounds(editor, "app.rootGraph.nodes")
    view = editor.page.viewport_size or {"width": 0, "height": 0}
    scale = min((view["width"] - 120) / width, (view["height"] - 120) / height)
    return picture(editor, left, top, width, height, scale)


def run_picture(editor: Editor) -> bytes:
    """Sample and Save Video after a run: the schedule, the preview, the seconds of each expert, the video."""
    editor.run("await app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', 'latent2rgb');")
    editor.load(json.loads((ROOT / "workflows" / "wan22_i2v_4step.json").read_text()))
    editor.set_widgets("WanRelay_PrepareLatent", {"sizing": "fixed", "width": 240, "height": 160, "length": 33})
    editor.run("await app.queuePrompt(0, 1);")
    editor.wait("document.querySelector('video')?.videoWidth === 240", timeout_ms=300_000)
    editor.run("document.querySelector('video').removeAttribute('controls');")
    return picture(
        editor, *bounds(editor, "[...find('WanRelay_Sample'), ...find('WanRelay_SaveVideo')]", groups=False), 1
    )


def node_picture(editor: Editor, node_type: str) -> bytes:
    editor.run("const [node] = find(argument); node.setSize([node.size[0], node.computeSize()[1]]);", node_type)
    left, top, width, height = bounds(editor, f"find('{node_type}')", groups=False)
    return picture(editor, left - 10, top - 10, width + 20, height + 20, 1)


def bounds(editor: Editor, nodes: str, groups: bool = True) -> tuple[float, float, float, float]:
    """The rectangle (left, top, width, height) around nodes, and around the groups too, in graph units."""
    boxes: list[list[float]] = editor.run(
        f"const nodes = {nodes}; const groups = {'app.rootGraph.groups' if groups else '[]'};"
        "return [...nodes, ...groups].map((item) => [...item.boundingRect]);"
    )
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def picture(editor: Editor, left: float, top: float, width: float, height: float, scale: float) -> bytes:
    """A part of the graph, moved clear of the menus."""
    edge = {"x": 90, "y": 90}
    editor.run(
        "app.canvas.ds.scale = argument.scale;"
        "const { x, y, scale, left, top } = argument;"
        "app.canvas.ds.offset = [x / scale - left, y / scale - top];"
        "app.canvas.setDirty(true, true);",
        {"scale": scale, "left": left, "top": top, **edge},
    )
    editor.page.add_style_tag(content=".comfyui-body-top, .side-tool-bar-container, .actionbar { visibility: hidden; }")
    editor.settle(1200)
    clip: Any = {**edge, "width": width * scale, "height": height * scale}
    return editor.page.screenshot(clip=clip)


def save_jpg(png: bytes, path: Path, width: int) -> None:
    with Image.open(io.BytesIO(png)) as image:
        height = round(image.height * width / image.width)
        image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(path, quality=85, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
