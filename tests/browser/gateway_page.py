"""Drives the gateway's page in one tab, as its user would. Its own policy forbids `eval`, so waits go by locators."""

import re
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "tests" / "data" / "coffee.jpg"
PICTURE_SIZE = (600, 400)
TIMEOUT_MS = 120_000
# Chromium reports every answer of 4xx, and a gateway that is down, as an error of the console.
NETWORK = re.compile(r"Failed to load resource|net::ERR_")
WATCH_POLICY = """
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class GatewayPage:
    """`problems` are errors of the console, exceptions and broken policy; a test that leaves one has failed."""

    def __init__(self, browser: Browser, url: str, width: int = 1360, height: int = 900, **options: Any) -> None:
        options = {"locale": "en-US", "color_scheme": "light", "reduced_motion": "reduce"} | options
        self.url = url
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.context.add_init_script(WATCH_POLICY)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.addresses: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.open()

    def open(self) -> None:
        self.page.goto(self.url)
        self.page.locator("#main:visible").wait_for()

    def reload(self) -> None:
        self.page.reload()
        self.page.locator("#main:visible").wait_for()

    def close(self) -> None:
        self.context.close()

    @property
    def problems(self) -> list[str]:
        return [*self.errors, *self.page.evaluate("window.violations")]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not NETWORK.search(message.text):
            self.errors.append(message.text)

    def order(self, prompt: str, picture: Path | None = PICTURE) -> None:
        """Fill in, and send."""
        if picture:
            self.page.set_input_files("#start", picture)
            self.page.locator("#zone_start.full").wait_for()
        self.page.fill("#prompt", prompt)
        self.page.click("#make")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def say(self, selector: str, words: str) -> Locator:
        """The element once it says the words."""
        found = self.page.locator(selector).filter(has_text=words)
        found.first.wait_for()
        return found

    def watch(self, selector: str) -> None:
        """Note from now on every text that an element shows."""
        self.page.evaluate(
            "(selector) => { const element = document.querySelector(selector); window.seen = { [selector]: [] };"
            "new MutationObserver(() => {"
            "  const said = element.innerText;"
            "  if (said !== window.seen[selector].at(-1)) window.seen[selector].push(said);"
            "}).observe(element, { childList: true, subtree: true, characterData: true }); }",
            selector,
        )

    def seen(self, selector: str) -> list[str]:
        texts: list[str] = self.page.evaluate("(selector) => window.seen[selector]", selector)
        return texts

    def video(self) -> Locator:
        """The finished video, when its first frame is there."""
        video = self.page.locator("#stage video")
        video.wait_for()
        self.until(lambda: video.evaluate("(video) => video.readyState >= 2 && video.videoWidth > 0"))
        return video

    def until(self, condition: Any, timeout_s: float = 120) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (said := condition()):
            assert time.monotonic() < deadline, "it never came"
            self.page.wait_for_timeout(50)
        return said

    def task_id(self) -> str:
        """Of the video that is looked at."""
        return str(self.page.evaluate("location.hash.slice(1)"))

    def kept(self) -> list[dict[str, Any]]:
        """The history as the browser keeps it."""
        kept: list[dict[str, Any]] = self.page.evaluate("JSON.parse(localStorage.wan_relay_history ?? '[]')")
        return kept

    def ask(self, module: str, body: str, argument: Any = None) -> Any:
        """What the body says of a module of the page, which it sees as `its`."""
        return self.page.evaluate(
            f"async (argument) => {{ const its = await import('/page/{module}'); {body} }}", argument
        )
