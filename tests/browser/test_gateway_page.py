"""The gateway's page in the real browser: from a picture to a video, and what goes wrong on the way."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from wan_relay.tests.browser.gateway_page import PICTURE, GatewayPage
from wan_relay.tests.service.gateway.stand import Stand

Open = Callable[..., GatewayPage]


def api(stand: Stand, path: str) -> dict[str, Any]:
    with stand.client() as client:
        answer: dict[str, Any] = client.get(f"/api/v1/videos{path}").json()
    return answer


def test_a_picture_becomes_a_video(page: GatewayPage, gateway_stand: Stand) -> None:
    page.page.set_input_files("#start", PICTURE)
    page.say("#readout", "768 × 512, 81 frames, 5.06 s at 16 fps")
    page.watch("#stage .status")
    page.order("slow 6 steam rises from the cup")
    page.say("#stage .status", "Step 3 of 4, Low noise")
    assert page.page.title() == "50% · Wan Relay"
    video = page.video()
    assert [words for words in page.seen("#stage .status") if words.startswith("Step")] == [
        "Step 2 of 4, High noise",
        "Step 3 of 4, Low noise",
        "Step 4 of 4, Low noise",
    ]
    assert page.page.locator(".bar.high_noise.done").count() == page.page.locator(".bar.low_noise.done").count() == 2
    assert video.evaluate("(video) => [video.muted, video.loop, video.controls]") == [True, True, True]
    task = api(gateway_stand, f"/{page.task_id()}")
    assert task["status"] == "succeeded"
    assert (video.get_attribute("src") or "").partition("?")[0] == task["video"]["url"].partition("?")[0]
    assert page.text("#stage .status") == "832 × 480, 81 frames, 5.06 s at 16 fps"
    assert str(task["seed"]) in page.text(".facts")
    with page.page.expect_download() as download:
        page.page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".mp4")
    path = download.value.path()
    assert path is not None
    assert Path(path).stat().st_size == task["video"]["size"]
    page.page.get_by_role("button", name="Use this seed").click()
    assert page.page.input_value("#seed") == str(task["seed"])
    assert page.page.title() == "Wan Relay"


def test_the_order_that_is_sent(page: GatewayPage) -> None:
    page.page.set_input_files("#end", PICTURE)
    page.page.locator("#zone_end.full").wait_for()
    page.page.fill("#negative", "blur")
    page.page.locator("[name=model][value=reference]").check()
    page.page.locator("[name=resolution]").nth(1).check()
    page.page.select_option("#aspect", "4:3")
    page.page.fill("#duration", "2.5")
    page.page.fill("#seed", "42")
    page.page.check("#expand")
    page.page.click("#advanced summary")
    page.page.fill("#steps", "20")
    page.page.fill("#cfg", "4,5")
    page.page.fill("#shift", "8")
    with page.page.expect_request(lambda request: request.method == "POST") as sent:
        page.order("the sun sets")
    order = sent.value.post_data_json
    pictures = [order.pop(name) for name in ("image_url", "end_image_url")]
    assert [picture.partition(",")[0] for picture in pictures] == ["data:image/jpeg;base64"] * 2
    assert order == {
        "prompt": "the sun sets",
        "task_type": "i2v",
        "negative_prompt": "blur",
        "model": "reference",
        "resolution": "720p",
        "aspect_ratio": "4:3",
        "duration": 2.5,
        "enable_prompt_expansion": True,
        "seed": 42,
        "steps": 20,
        "cfg": 4.5,
        "shift": 8,
    }
    page.say(".warnings", "prompt expansion is not configured on this gateway")
    page.video()


def test_words_alone_and_a_drawn_seed(page: GatewayPage, gateway_stand: Stand) -> None:
    page.page.click("#draw")
    seed = page.page.input_value("#seed")
    assert seed.isdecimal()
    page.order("slow 2 a wave breaks", picture=None)
    page.say("#stage .status", "Step")
    boxes = [page.page.locator(selector).bounding_box() for selector in ("#form", ".frame")]
    page.video()
    assert [page.page.locator(selector).bounding_box() for selector in ("#form", ".frame")] == boxes  # nothing jumps
    task = api(gateway_stand, f"/{page.task_id()}")
    assert (task["seed"], task["settings"]["workflow"]) == (int(seed), "wan22_t2v_4step")
    page.until(lambda: page.kept()[0].get("thumbnail", "").startswith("data:image/jpeg"))


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(page: GatewayPage, how: str) -> None:
    """The first goes to the place that is meant or is free, the next to the other."""
    give = """async ([how, bytes, target]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "a.jpg", { type: "image/jpeg" }));
        const event = how === "drop"
            ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
        document.querySelector(target).dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    bytes_ = list(PICTURE.read_bytes())
    assert page.page.evaluate(give, [how, bytes_, "#end" if how == "drop" else "body"])
    page.page.locator("#zone_end.full" if how == "drop" else "#zone_start.full").wait_for()
    assert page.page.locator(".zone.full").count() == 1
    assert page.page.evaluate(give, [how, bytes_, "body"])
    page.page.locator(".zone.full").nth(1).wait_for()
    page.page.get_by_label("Remove the last frame").click()
    assert page.page.locator(".zone.full").count() == 1


def test_faults_are_said_beside_their_field(page: GatewayPage, tmp_path: Path) -> None:
    page.page.click("#make")
    assert page.text("#problem_prompt") == "Say what happens in the video."
    assert page.page.evaluate("document.activeElement.id") == "prompt"
    page.page.fill("#seed", "one")
    page.page.locator("[name=model][value=reference]").check()
    page.order("a wave", picture=None)
    assert page.text("#problem_seed") == "A whole number from 0 to 9007199254740991."
    assert page.text("#problem_start") == "The reference pair needs a picture."
    assert page.text("#problem_prompt") == ""
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    page.page.set_input_files("#start", tmp_path / "broken.png")
    page.say("#problem_start", "not a picture that the browser can read")
    page.page.locator("[name=model][value='5b']").check()
    page.page.set_input_files("#end", PICTURE)
    page.page.click("#make")
    page.say("#problem_end", "TI2V-5B takes no last frame.")
    assert not any("/api/" in address for address in page.addresses)


def test_the_gateways_refusal_is_said_beside_its_field(page: GatewayPage) -> None:
    page.order("bell \u0007", picture=None)
    page.say("#problem_prompt", "The gateway does not take this value. prompt must not contain control characters")
    assert page.page.get_attribute("#prompt", "aria-invalid") == "true"
    assert page.kept() == []


def test_a_failure_is_said_in_words(page: GatewayPage) -> None:
    page.order("fail OUT_OF_MEMORY", picture=None)
    page.say("#stage .status", "There is no video. This size does not fit the graphics card.")
    page.say("#history", "failed")


def test_a_gateway_that_is_away_loses_no_order(page: GatewayPage, gateway_stand: Stand) -> None:
    """The same order again is the same video: its first answer may have been lost."""
    posts = []

    def lose_the_answer(route: Any) -> None:
        posts.append(route.request.headers["idempotency-key"])
        if len(posts) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.page.route("**/api/v1/videos", lose_the_answer)
    page.order("a lost answer", picture=None)
    page.say("#problem_form", "The gateway does not answer. Nothing was lost: try it again.")
    page.page.click("#make")
    page.video()
    page.page.click("#make")
    page.until(lambda: len(page.kept()) == 2)
    assert posts[0] == posts[1] != posts[2]
    made = [video["id"] for video in api(gateway_stand, "")["videos"] if video["prompt"] == "a lost answer"]
    assert sorted(made) == sorted(entry["id"] for entry in page.kept())


def test_cancel(page: GatewayPage, gateway_stand: Stand) -> None:
    page.order("hang", picture=None)
    page.say("#stage .status", "Step 2 of 4, High noise")
    page.page.get_by_role("button", name="Cancel").click()
    page.say("#stage .status", "Cancelled.")
    assert api(gateway_stand, f"/{page.task_id()}")["status"] == "cancelled"
    page.say("#history", "cancelled")


def test_one_waits_behind_another(page: GatewayPage) -> None:
    page.order("hang", picture=None)
    page.say("#stage .status", "Step 2 of 4")
    page.order("second", picture=None)
    page.say("#stage .status", "Waiting, next in line")
    page.order("third", picture=None)
    page.say("#stage .status", "Waiting, 1 before it")
    page.page.locator("#history .open").nth(2).click()
    page.page.get_by_role("button", name="Cancel").click()
    page.say("#stage .status", "Cancelled.")
    page.until(lambda: page.page.locator("#history .hint").filter(has_text="done").count() == 2)


def test_a_reload_in_the_middle_goes_on(page: GatewayPage) -> None:
    page.order("slow 8", picture=None)
    page.say("#stage .status", "Step 2 of 4")
    task_id = page.task_id()
    page.reload()
    page.say("#stage .status", "Step")
    assert page.task_id() == task_id
    page.video()
    page.reload()
    page.video()
    assert page.page.locator("#history li").count() == 1


def test_a_gateway_that_starts_again_is_found_again(open_page: Open, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    try:
        stand.start_executor()
        stand.start_gateway()
        page = open_page(stand)
        page.order("slow 12", picture=None)
        page.say("#stage .status", "Step")
        stand.gateway.kill()
        page.say("#stage .status", "The gateway does not answer; trying again.")
        stand.start_gateway(port=stand.port)
        page.video()
        assert page.page.locator("#history li").count() == 1
    finally:
        stand.close()


def test_the_last_frame_becomes_the_first(page: GatewayPage) -> None:
    page.order("a grey wall", picture=None)
    page.video()
    content = grey_video([40, 90, 140, 200])
    page.page.route("**/files/**", lambda route: route.fulfill(body=content, content_type="video/mp4"))
    page.reload()
    page.video()
    page.page.get_by_role("button", name="Use last frame as start").click()
    page.page.locator("#zone_start.full").wait_for()
    assert page.text("#size_start") == "832 × 480"
    grey = page.page.evaluate(
        "() => { const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;"
        "const context = canvas.getContext('2d'); context.drawImage(document.querySelector('#zone_start img'), 0, 0, 1, 1);"
        "return context.getImageData(0, 0, 1, 1).data[0]; }"
    )
    assert grey == pytest.approx(200, abs=6)
    page.say("#readout", "832 × 480")


def grey_video(greys: list[int], size: tuple[int, int] = (832, 480)) -> bytes:
    """One frame for each grey, 16 a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "10", "movflags": "faststart"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for grey in greys:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((*size[::-1], 3), grey, np.uint8))))
        container.mux(stream.encode())
    return file.getvalue()


def test_the_history_deletes_and_says_what_is_gone(page: GatewayPage, gateway_stand: Stand) -> None:
    for prompt in ("first", "second", "third"):
        page.order(prompt, picture=None)
        page.say("#history .open[aria-current] .prompt", prompt)
        page.video()
    third, second, first = (entry["id"] for entry in page.kept())
    page.page.get_by_label("Delete: third").click()
    page.page.get_by_role("button", name="Keep it").click()
    assert len(page.kept()) == 3
    page.page.get_by_label("Delete: third").click()
    page.page.get_by_role("button", name="Delete", exact=True).click()
    page.until(lambda: len(page.kept()) == 2)
    with gateway_stand.client() as client:
        assert client.get(f"/api/v1/videos/{third}").status_code == 404
        assert client.delete(f"/api/v1/videos/{second}").status_code == 204
    page.page.locator("#history .open").first.click()
    page.say("#stage .status", "The video is kept no longer.")
    page.page.evaluate(
        "(id) => { const kept = JSON.parse(localStorage.wan_relay_history);"
        "kept.find((entry) => entry.id === id).task.expires_at = '2026-01-01T00:00:00Z';"
        "localStorage.wan_relay_history = JSON.stringify(kept); }",
        first,
    )
    page.reload()
    page.until(lambda: page.text("#history").count("kept no longer") == 2)
    page.page.locator("#history .open").nth(1).click()
    page.say("#stage .status", "The video is kept no longer.")
    page.page.get_by_role("button", name="Use these settings").click()
    assert page.page.input_value("#prompt") == "first"


def test_the_key_is_asked_for_and_stays_in_the_tab(open_page: Open, locked_stand: Any) -> None:
    key = locked_stand.key
    page = open_page(locked_stand)
    page.order("a locked door", picture=None)
    page.say("#key_dialog", "Whoever runs the gateway makes one")
    page.page.get_by_role("button", name="Not now").click()
    page.say("#problem_form", "The gateway wants a key that it knows.")
    page.page.click("#make")
    for wrong in ("wrong", "ключ"):
        page.page.fill("#key_value", wrong)
        page.page.press("#key_value", "Enter")
        page.say("#key_dialog", "The gateway does not know this key.")
    page.page.fill("#key_value", key)
    page.page.get_by_role("button", name="Use it").click()
    page.video()
    assert page.page.evaluate("sessionStorage.wan_relay_key") == key
    assert key not in page.page.evaluate("JSON.stringify(localStorage)")
    page.reload()
    page.video()
    assert not any(key in address for address in [*page.addresses, page.page.url])
    page.page.get_by_role("button", name="Forget the key").click()
    page.page.locator("#key_dialog:visible").wait_for()
    page.page.keyboard.press("Escape")
    page.page.get_by_role("button", name="Enter a key").wait_for()
    other = open_page(locked_stand)
    assert other.page.evaluate("sessionStorage.length") == 0


def test_it_is_used_by_keyboard_alone(page: GatewayPage) -> None:
    """Every stop of the tab key shows where it is."""
    visited = []
    for _ in range(40):
        page.page.keyboard.press("Tab")
        stop, is_seen = page.page.evaluate(
            "() => { const it = document.activeElement; const shown = it.closest('.zone') ?? it.closest('label') ?? it;"
            "return [it.id || it.name || it.tagName, [it, shown].some((each) => getComputedStyle(each).outlineStyle !== 'none')]; }"
        )
        if stop in ("BODY", visited[0] if visited else None):
            break
        assert is_seen, stop
        visited.append(stop)
    assert visited == [
        *("language", "start", "end", "prompt", "expand", "negative", "model", "resolution", "aspect"),
        *("duration", "seed", "draw", "SUMMARY", "make"),
    ]
    page.page.focus("#prompt")
    page.page.keyboard.type("a wave")
    page.page.keyboard.press("Control+Enter")
    page.video()
    assert page.page.evaluate("document.activeElement.id") == "stage"
