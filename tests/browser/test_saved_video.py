"""Under Save Video: the file plays at once, its seed can be used again, and the last frame is the next start."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

ROOT = Path(__file__).resolve().parents[2]
TINY = {"sizing": "fixed", "width": 64, "height": 48, "length": 5}
USE_SEED = ".wan-relay button.use-seed:visible"


def load(editor: Any, name: str = "wan22_i2v_4step") -> None:
    editor.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text()))
    editor.set_widgets("WanRelay_PrepareLatent", TINY)
    editor.wait_for_panel("WanRelay_PrepareLatent", "64 x 48, crop, 5 frames")


def run(editor: Any, prefix: str) -> None:
    """Until Save Video says that a file of this name was saved."""
    editor.set_widgets("WanRelay_SaveVideo", {"filename_prefix": f"video/{prefix}"})
    editor.run("app.canvas.centerOnNode(find('WanRelay_SaveVideo')[0]); await app.queuePrompt(0);")
    editor.wait_for_panel("WanRelay_SaveVideo", f"{prefix}_0")


def seed_of(editor: Any) -> list[Any]:
    values = "filter((w) => /seed|generate/.test(w.name)).map((w) => w.value)"
    return editor.run(f"return find('WanRelay_Sample')[0].widgets.{values};")


def test_a_name_with_signs_plays_at_once(editor: Any) -> None:
    load(editor)
    prefix = "it's (a) new one!~"
    run(editor, prefix)
    editor.wait(
        "[...document.querySelectorAll('video')].some((video) => video.muted && video.loop && !video.paused"
        " && new URL(video.src).searchParams.get('filename').startsWith(argument))",
        prefix,
    )


def test_the_seed_of_a_long_video_can_be_used_again_where_sample_gave_it(editor: Any) -> None:
    load(editor, "wan22_i2v_long")
    editor.set_widgets("WanRelay_LongVideo", {"lengths": "5, 5"})
    editor.set_widgets("WanRelay_Sample", {"seed": 77, "control_after_generate": "fixed"})
    run(editor, "long_of_sample")
    editor.wait_for_panel("WanRelay_SaveVideo", "Seed 77")
    editor.set_widgets("WanRelay_Sample", {"seed": 1, "control_after_generate": "randomize"})
    editor.page.locator(USE_SEED).click()
    assert seed_of(editor) == [77, "fixed"]
    editor.set_widgets("WanRelay_LongVideo", {"seeds": "5, 6"})
    run(editor, "long_of_seeds")
    editor.wait_for_panel("WanRelay_SaveVideo", "Seed 5")
    assert editor.page.locator(USE_SEED).count() == 0


def test_no_seed_is_offered_where_it_could_not_be_put(editor: Any) -> None:
    load(editor)
    editor.run(
        "const node = LiteGraph.createNode('PrimitiveInt'); app.rootGraph.add(node); node.widgets[0].value = 8;"
        "node.connect(0, find('WanRelay_Sample')[0], 'seed');"
    )
    run(editor, "linked_seed")
    editor.wait_for_panel("WanRelay_SaveVideo", "Seed 8")
    assert editor.page.locator(USE_SEED).count() == 0
    load(editor)
    editor.set_widgets("WanRelay_Sample", {"seed": 9})
    editor.run("app.rootGraph.convertToSubgraph(new Set([find('WanRelay_Sample')[0]]));")
    run(editor, "seed_inside")
    editor.wait_for_panel("WanRelay_SaveVideo", "Seed 9")
    assert editor.page.locator(USE_SEED).count() == 0


@pytest.mark.parametrize("is_kept", [pytest.param(False, id="gone"), pytest.param(True, id="not_uploaded")])
def test_a_last_frame_that_cannot_be_put_there_is_said_and_changes_nothing(
    editor: Any, server: Any, is_kept: bool
) -> None:
    load(editor)
    run(editor, f"last_frame_{is_kept}")
    if is_kept:
        editor.page.route("**/upload/image", lambda route: route.fulfill(status=500, body="<html>"))
    else:  # as the next start of the server leaves it
        for picture in (server.base / "temp").glob("wan_relay_last_frame*"):
            picture.unlink()
    shown = "const { value, options } = find('LoadImage')[0].widgets[0]; return [value, options.values.length];"
    before = editor.run(shown)
    editor.page.locator(".wan-relay button.go-on:visible").click()
    says = "The last frame could not be put there; the server keeps its picture only until it starts again."
    editor.wait_for_panel("WanRelay_SaveVideo", says)
    assert editor.run(shown) == before
    editor.page.unroute("**/upload/image")
    assert all("Failed to load resource" in error for error in editor.errors)
    editor.errors.clear()
