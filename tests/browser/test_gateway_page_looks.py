"""How the page looks: contrast in both themes, four languages, a phone's width, motion only where it is welcome."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Error
from wan_relay.tests.browser.gateway_page import PICTURE, ROOT, GatewayPage
from wan_relay.tests.service.gateway.stand import Stand

LANGUAGES = {"en-US": "en", "ru-RU": "ru", "zh-CN": "zh", "ko-KR": "ko"}
Open = Callable[..., GatewayPage]

# Of every text that can be seen, and of every field's edge: the ratio to what is behind it, where that is too low.
LOW_CONTRAST = """() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return [...found.slice(0, 3), found[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const own = channels(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const low = [];
  let seen = 0;
  const check = (what, colour, element, least) => {
    seen += 1;
    const ground = behind(element);
    const found = ratio(over(channels(colour), ground), ground);
    if (found < least) low.push(`${what}: ${found.toFixed(2)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: element, textContent } = walker.currentNode;
    if (!textContent.trim() || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    check(textContent.trim().slice(0, 40), getComputedStyle(element).color, element, 4.5);
  }
  for (const field of document.querySelectorAll("input[type=text], input[type=password], textarea, select")) {
    if (!field.checkVisibility()) continue;
    check(field.id, getComputedStyle(field).color, field, 4.5);
    check(`${field.id} placeholder`, getComputedStyle(field, "::placeholder").color, field, 4.5);
    check(`${field.id} edge`, getComputedStyle(field).borderTopColor, field.parentElement, 3);
  }
  for (const bar of document.querySelectorAll(".bar.done"))
    check("bar", getComputedStyle(bar).backgroundColor, bar.parentElement, 3);
  return [seen, low];
}"""


def low_contrast(page: GatewayPage, least_seen: int) -> list[str]:
    seen, low = page.page.evaluate(LOW_CONTRAST)
    assert seen >= least_seen
    found: list[str] = low
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_in_every_state(open_page: Open, locked_stand: Any, theme: str) -> None:
    page = open_page(locked_stand, color_scheme=theme, reduced_motion="no-preference")
    is_dark = page.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 128)"
    )
    assert is_dark == (theme == "dark")
    page.page.click("#advanced summary")
    page.page.fill("#cfg", "x")
    page.page.click("#make")
    assert low_contrast(page, 50) == []
    page.page.fill("#cfg", "")
    page.page.check("#expand")
    page.order("slow 4 steam")
    page.page.fill("#key_value", "wrong")
    page.page.press("#key_value", "Enter")
    page.say("#key_dialog", "does not know")
    assert low_contrast(page, 55) == []
    page.page.fill("#key_value", locked_stand.key)
    page.page.press("#key_value", "Enter")
    page.say("#stage .status", "Step 3 of 4")
    assert low_contrast(page, 50) == []
    video = page.video()
    page.until(lambda: video.evaluate("(video) => video.currentTime > 0"))
    page.say(".warnings", "expansion")
    assert low_contrast(page, 75) == []
    page.order("fail OUT_OF_MEMORY", picture=None)
    page.say("#stage .status", "There is no video.")
    assert low_contrast(page, 60) == []


def test_the_check_of_contrast_finds_what_is_faint(page: GatewayPage) -> None:
    page.page.evaluate("document.querySelector('#negative_hint').style.color = '#8a8a8a'")
    [found] = low_contrast(page, 40)
    assert re.fullmatch(r"Without effect at cfg 1\.: 3\.\d\d", found)


def test_nothing_moves_where_less_motion_is_wished(page: GatewayPage) -> None:
    page.order("slow 3", picture=None)
    page.page.locator(".bar.now").wait_for()
    assert page.page.evaluate("document.getAnimations().length") == 0
    assert page.video().evaluate("(video) => [video.paused, video.autoplay]") == [True, False]


@pytest.mark.parametrize("locale", LANGUAGES)
def test_each_language_on_a_phone(open_page: Open, gateway_stand: Stand, locale: str) -> None:
    """No word is missing, nothing is wider than the screen, and no word is cut off."""
    page = open_page(gateway_stand, width=360, height=740, locale=locale, has_touch=True)
    assert page.page.evaluate("document.documentElement.lang") == LANGUAGES[locale]
    words = json.loads((ROOT / "service" / "gateway" / "page" / "words" / f"{LANGUAGES[locale]}.json").read_text())
    assert page.page.inner_text("#make") == words["make"]
    page.page.click("#advanced summary")
    page.page.click("#make")
    check_narrow(page, words)
    page.page.check("#expand")
    page.order("slow 3 steam")
    page.page.locator(".bar.low_noise.done").first.wait_for()
    check_narrow(page, words)
    assert words["low_noise"] in page.page.inner_text("#stage .status")
    page.video()
    page.page.locator(".warnings").wait_for()
    check_narrow(page, words)
    page.page.locator("#history .remove").click()
    check_narrow(page, words)
    page.page.locator("#sure_yes").click()
    page.page.locator("#history").wait_for(state="hidden")


def check_narrow(page: GatewayPage, words: dict[str, str]) -> None:
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    cut = page.page.evaluate(
        "() => [...document.querySelectorAll('button, .button, label, summary, legend, dt, dd, p, h1, h2, .status')]"
        ".filter((each) => each.checkVisibility() && (each.scrollWidth > each.clientWidth + 1 && each.clientWidth"
        " || each.getBoundingClientRect().right > innerWidth)).map((each) => each.innerText)"
    )
    assert cut == []
    keys = {key for key in words if re.search(r"[A-Z_]", key)}
    assert keys & set(re.findall(r"\w+", page.page.inner_text("body"))) == set()


def test_the_language_is_chosen_and_kept(page: GatewayPage) -> None:
    page.page.set_input_files("#start", PICTURE)
    page.page.fill("#prompt", "stays")
    page.page.select_option("#language", "ru")
    page.say("#make", "Создать видео")
    page.say("#readout", "768 × 512, 81 кадр., 5,06 с при 16 кадр/с")
    assert page.page.input_value("#prompt") == "stays"
    page.reload()
    page.say("#make", "Создать видео")


def test_an_inline_script_would_not_run(open_page: Open, gateway_stand: Stand, browser: Any) -> None:
    """What the policy is for; and that the tests see when it is broken."""
    page = GatewayPage(browser, gateway_stand.url)
    with pytest.raises(Error, match="requires 'TrustedScript' assignment"):
        page.page.evaluate(
            "() => { const it = document.createElement('div'); it.setAttribute('onclick', 'window.ran = true');"
            "document.body.append(it); it.click(); }"
        )
    assert page.page.evaluate("window.ran") is None
    page.page.evaluate(
        "() => { const frame = document.createElement('iframe'); frame.src = 'https://example.com/';"
        "document.body.append(frame); }"
    )
    page.until(lambda: any("default-src" in problem for problem in page.problems))
    page.close()
