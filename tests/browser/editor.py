"""Drives ComfyUI's graph editor: one page of headless Chromium, by its own API where a user would use the mouse."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 60_000

# What a page of ComfyUI without any pack says on a new user directory.
CORE_ERRORS = re.compile(r"/user\.css|/userdata\b|ComfyApp graph accessed before initialization")

FIND = "const find = (type) => app.rootGraph.nodes.filter((node) => node.type === type);"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, closed on the way out."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT_MS)
        try:
            yield browser
        finally:
            browser.close()


class Editor:
    """The graph editor in one browser page. `errors` collects what the console calls an error."""

    def __init__(self, browser: Browser, url: str, scale: float = 1, width: int = 1800, height: int = 1000):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=scale, service_workers="block"
        )
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url.removeprefix(url)))
        self.page.goto(url)
        self._wait_until_started()

    def reload(self) -> None:
        self.page.reload()
        self._wait_until_started()

    def _wait_until_started(self) -> None:
        self.wait("app?.canvas?.graph && app.extensionManager")
        self.settle()

    def close(self) -> None:
        self.context.close()

    def _on_console(self, message: ConsoleMessage) -> None:
        text = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not CORE_ERRORS.search(text):
            self.errors.append(text)

    def run(self, body: str, argument: Any = None) -> Any:
        """Run the body of an async function in the page; it sees `argument`, `app` and `find(type)`."""
        return self.page.evaluate(f"async (argument) => {{ const app = window.app; {FIND} {body} }}", argument)

    def wait(self, condition: str, argument: Any = None, timeout_ms: float = TIMEOUT_MS) -> None:
        """Wait until a JavaScript expression, which sees the same names, is true."""
        body = f"(argument) => {{ const app = window.app; {FIND} return Boolean({condition}); }}"
        self.page.wait_for_function(body, arg=argument, timeout=timeout_ms, polling=100)

    def settle(self, ms: int = 400) -> None:
        """Let the page draw."""
        self.page.wait_for_timeout(ms)

    def set_up(self, nodes_2: bool = False, language: str = "en", palette: str = "dark") -> None:
        self.run(
            "for (const [key, value] of Object.entries(argument)) await app.extensionManager.setting.set(key, value);",
            {"Comfy.VueNodes.Enabled": nodes_2, "Comfy.Locale": language, "Comfy.ColorPalette": palette},
        )
        self.settle()

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a graph or an API workflow, and wait until every panel of the pack has drawn itself."""
        if "nodes" in workflow:
            self.run("await app.loadGraphData(argument);", workflow)
        else:
            self.run("app.loadApiJson(argument, 'workflow');", workflow)
        self.wait_for_panels()

    def wait_for_panels(self) -> None:
        self.wait(
            "app.rootGraph.nodes.some((node) => node.type.startsWith('WanRelay_')) && app.rootGraph.nodes"
            ".filter((node) => /_(LoadExperts|ApplyLoraPair|PrepareLatent|Sample)$/.test(node.type))"
            ".every((node) => node.widgets.some((w) => w.name.startsWith('wan_relay_') && w.element.childElementCount))"
        )

    def export(self) -> dict[str, Any]:
        """The workflow in API format, as the menu's Export (API) writes it."""
        return json.loads(self.run("return JSON.stringify((await app.graphToPrompt()).output);"))

    def graph(self) -> dict[str, Any]:
        return json.loads(self.run("return JSON.stringify(app.rootGraph.serialize());"))

    def set_widgets(self, node_type: str, values: dict[str, Any]) -> None:
        """Set widgets of the first node of a type as the editor does: value, then callback."""
        self.run(
            "const node = find(argument.type)[0];"
            "for (const [name, value] of Object.entries(argument.values)) {"
            "  const widget = node.widgets.find((w) => w.name === name);"
            "  widget.value = value; widget.callback?.(value, app.canvas, node);"
            "}",
            {"type": node_type, "values": values},
        )

    def panel(self, node_type: str) -> str:
        """What the panel of the first node of a type says, without the pick lists."""
        return self.run(
            "const element = find(argument)[0].widgets.find((w) => w.name.startsWith('wan_relay_'))?.element;"
            "return [...(element?.children ?? [])].filter((child) => !child.querySelector('select, .bar, .budget'))"
            ".map((child) => child.textContent).join('\\n');",
            node_type,
        )

    def wait_for_panel(self, node_type: str, says: str) -> None:
        self.wait(
            "find(argument[0])[0]?.widgets.find((w) => w.name.startsWith('wan_relay_'))"
            "?.element.textContent.includes(argument[1])",
            [node_type, says],
        )

    def wait_until_panel_lacks(self, node_type: str, words: str) -> None:
        self.wait(
            "!find(argument[0])[0].widgets.find((w) => w.name.startsWith('wan_relay_'))"
            ".element.textContent.includes(argument[1])",
            [node_type, words],
        )

    def watch_run(self, node_type: str) -> None:
        """Note every line that a panel shows from now on, and every preview that the server sends."""
        self.run(
            "window.seen = []; window.previews = 0;"
            "window.comfyAPI.api.api.addEventListener('b_preview_with_metadata', () => window.previews++);"
            "const element = find(argument)[0].widgets.find((w) => w.name.startsWith('wan_relay_')).element;"
            "new MutationObserver(() => {"
            "  for (const { textContent } of element.children)"
            "    if (!window.seen.includes(textContent)) window.seen.push(textContent);"
            "}).observe(element, { childList: true });",
            node_type,
        )

    def seen_in_run(self) -> tuple[list[str], int]:
        return tuple(self.run("return [window.seen, window.previews];"))

    def fit(self) -> None:
        """Show the whole graph."""
        self.run("await app.extensionManager.command.execute('Comfy.Canvas.FitView');")
        self.settle(1200)
