"""Makes workflows/*.json out of workflows/api/*.json: the real editor builds each graph, this script lays it out.

Run it with `python3 dev.py run tests.browser.make_templates URL [NAME]` where URL is a running ComfyUI with this pack.
"""

import json
import sys
from pathlib import Path
from typing import Any

from .editor import Editor, chromium
from .template_notes import DOWNLOADS, note_of

ROOT = Path(__file__).resolve().parents[2]
TITLE_HEIGHT = 30
GAP = 100  # Nodes 2.0 draws a node up to 80 pixels taller than the classic canvas
GROUP_PADDING = 12
COLUMN_GAP = 20

# Column by column, left to right: the group's title, its colour, its width, and the nodes in it, top to bottom. All of
# it is less than 1790 wide, and 1000 high where the nodes allow: so a screen of 1366x768, of which the editor fills
# three quarters, shows it above the scale (8 / 14) under which the classic canvas leaves the texts away.
COLUMNS: list[tuple[str, str, int, list[str]]] = [
    (
        "Models",
        "#3f789e",
        350,
        [
            "WanRelay_LoadExperts",
            "WanRelay_ApplyLoraPair",
            "WanRelay_ApplyNag",
            "VAELoader",
            "UpscaleModelLoader",
            "FrameInterpolationModelLoader",
        ],
    ),
    ("Prompt and images", "#8a6d3b", 310, ["WanRelay_EncodePrompts", "LoadImage"]),
    ("Size and length", "#5a7a4a", 310, ["WanRelay_PrepareLatent"]),
    ("Relay: high noise, then low noise", "#b06634", 310, ["WanRelay_OpeningLeg", "WanRelay_Sample"]),
    (
        "Video",
        "#6a5a8c",
        310,
        [
            "VAEDecode",
            "WanRelay_LongVideo",
            "WanRelay_UpscaleFrames",
            "WanRelay_InterpolateFrames",
            "WanRelay_SaveVideo",
        ],
    ),
]
HIGHEST = 1046  # of all, on that screen
HEIGHTS = {"WanRelay_EncodePrompts": 300, "LoadImage": 300, "WanRelay_SaveVideo": 480, "WanRelay_Sample": 640}
NOTE_HEIGHT = 240

# What the editor's app mode asks for, in this order, where the graph has it.
APP_INPUTS = {
    "LoadImage": ["image"],
    "WanRelay_EncodePrompts": ["prompt"],
    "WanRelay_PrepareLatent": ["width", "height", "length"],
    "WanRelay_Sample": ["seed"],
    "WanRelay_LongVideo": ["prompts"],
}


def lay_out(graph: dict[str, Any], name: str) -> dict[str, Any]:
    """The same graph in columns with a group around each, the note under the shortest one, and a form for app mode."""
    files = [value for node in graph["nodes"] for value in node.get("widgets_values", []) if value in DOWNLOADS]
    note_id = max(node["id"] for node in graph["nodes"]) + 1
    groups: list[dict[str, Any]] = []
    x = 0
    columns = [[node for kind in types for node in graph["nodes"] if node["type"] == kind] for *_, types in COLUMNS]
    *_, sampling, video = columns
    if height_of(video) > HIGHEST and video[0]["type"] == "VAEDecode":
        sampling.append(video.pop(0))
    for (title, colour, width, _), nodes in zip(COLUMNS, columns, strict=True):
        y = 0.0
        for node in nodes:
            node["pos"], node["size"] = [x, y], [width, node_height(node)]
            y += node_height(node) + GAP
        bounds = [x - GROUP_PADDING, -TITLE_HEIGHT - 60, width + 2 * GROUP_PADDING, height_of(nodes)]
        groups.append({"id": len(groups) + 1, "title": title, "bounding": bounds, "color": colour, "font_size": 24})
        x += width + 2 * GROUP_PADDING + COLUMN_GAP
    for node in graph["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"]}
        models = [
            {"name": file, "url": DOWNLOADS[file].url, "directory": DOWNLOADS[file].folder}
            for file in node.get("widgets_values", [])
            if file in DOWNLOADS and DOWNLOADS[file].url.endswith(file)
        ]
        if models:
            node["properties"]["models"] = models
    left, top, width, height = min((group["bounding"] for group in groups), key=lambda bounds: bounds[3])
    below = [left + GROUP_PADDING, top + height + 2 * TITLE_HEIGHT]
    size = [width - 2 * GROUP_PADDING, min(NOTE_HEIGHT, HIGHEST - height - 2 * TITLE_HEIGHT)]
    graph["nodes"].append(note(note_id, note_of(name, files), below, size))
    kept = ("last_link_id", "links", "nodes", "version")
    extra = {"linearData": app_form(graph["nodes"])}
    return {
        **{key: graph[key] for key in kept},
        "last_node_id": note_id,
        "groups": groups,
        "config": {},
        "extra": extra,
    }


def node_height(node: dict[str, Any]) -> float:
    return max(node["size"][1], HEIGHTS.get(node["type"], 0))


def height_of(column: list[dict[str, Any]]) -> float:
    """Of the group around it."""
    return sum((node_height(node) + GAP for node in column), 0.0) - GAP + TITLE_HEIGHT + 90


def app_form(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The widgets and the result that app mode shows: pairs of node number and widget, and node numbers."""
    inputs = [
        [node["id"], widget]
        for kind, widgets in APP_INPUTS.items()
        for node in nodes
        if node["type"] == kind
        for widget in widgets
    ]
    return {"inputs": inputs, "outputs": [node["id"] for node in nodes if node["type"] == "WanRelay_SaveVideo"]}


def note(number: int, text: str, position: list[float], size: list[float]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "MarkdownNote",
        "title": "Which files go where",
        "pos": position,
        "size": size,
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#653",
    }


def match_image(graph: dict[str, Any]) -> None:
    """A person's picture keeps its aspect, where a client of the API asks for a size: their only difference."""
    if any(node["type"] == "LoadImage" for node in graph["nodes"]):
        prepare = next(node for node in graph["nodes"] if node["type"] == "WanRelay_PrepareLatent")
        prepare["widgets_values"][0] = "match image"


def main(url: str, only: str = "*") -> None:
    with chromium() as browser:
        for path in sorted((ROOT / "workflows" / "api").glob(f"{only}.json")):
            editor = Editor(browser, url)  # a new page each time: the editor keeps pictures by node number
            editor.set_up()
            workflow = json.loads(path.read_text())
            editor.load(workflow)
            editor.settle(1500)
            graph = lay_out(editor.graph(), path.stem)
            editor.load(graph)
            if editor.export() != workflow:
                raise SystemExit(f"{path.name}: the graph does not export as the workflow that it was made from.")
            match_image(graph)
            text = json.dumps(graph, ensure_ascii=False, indent=2)
            (ROOT / "workflows" / path.name).write_text(text + "\n")
            editor.close()
            print(path.stem)


if __name__ == "__main__":
    main(*sys.argv[1:])
