"""One ComfyUI with the toy family under the real files' names, and one headless Chromium, for all editor tests."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wan_relay.tests.browser.front_end import newest_front_end
from wan_relay.tests.service.gateway.stand import Stand
from wan_relay.tools.comfyui_server import comfyui_server
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE
from wan_relay.tools.environment import Environment
from wan_relay.tools.toy_workflows import TOY_FILES

ROOT = Path(__file__).resolve().parents[2]

if importlib.util.find_spec("playwright"):
    from wan_relay.tests.browser.editor import CHROMIUM, Editor, chromium
    from wan_relay.tests.browser.gateway_page import GatewayPage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = None
    if not importlib.util.find_spec("playwright"):
        reason = "playwright is not installed"
    elif not CHROMIUM.exists():
        reason = f"there is no {CHROMIUM}"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(600))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package", params=["pinned", "newest"])
def front_end(request: pytest.FixtureRequest, toy_models: Path) -> Path | None:
    """None for the frontend that ComfyUI's release asks for."""
    return newest_front_end(toy_models.parent) if request.param == "newest" else None


@pytest.fixture(scope="package")
def server(toy_models: Path, tmp_path_factory: pytest.TempPathFactory, front_end: Path | None) -> Iterator[Any]:
    """ComfyUI in which every model file that a workflow names exists, small."""
    copies = tmp_path_factory.mktemp("models")
    models = {}
    for real, toy in TOY_FILES.items():
        # A toy that stands in for two real files is a file of its own each time: the loader lists a file once.
        toy = "toy_wan2.2_i2v_high_noise_4step_lora.safetensors" if toy == "none" else toy
        source = next(toy_models.rglob(toy))
        models[f"{source.parent.name}/{real}"] = Path(shutil.copy(source, copies / real))
    film = "film_net_fp16.safetensors"  # no toy stands in for it; the editor looks at its name alone
    models[f"frame_interpolation/{film}"] = Path(shutil.copy(source, copies / film))
    env = Environment(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), toy_models, ROOT)
    with comfyui_server(env, models=models, front_end=front_end) as server:
        from PIL import Image

        with Image.open(EXAMPLE_IMAGE) as image:
            image.resize((400, 300)).save(server.base / "input" / "example.png")
        # A first visit opens the template browser over everything.
        settings = server.base / "user" / "default" / "comfy.settings.json"
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))
        yield server


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def shared_editor(server: Any, browser: Any) -> Iterator[Any]:
    editor = Editor(browser, server.url)
    yield editor
    editor.close()


@pytest.fixture
def editor(shared_editor: Any) -> Iterator[Any]:
    """The editor with its usual settings; a test that leaves an error in the console fails."""
    shared_editor.errors.clear()
    shared_editor.set_up()
    yield shared_editor
    shared_editor.settle(100)
    assert shared_editor.errors == []


@pytest.fixture(scope="package")
def gateway_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A gateway without a key, and the fast executor."""
    stand = Stand(tmp_path_factory.mktemp("gateway"))
    stand.start_executor()
    stand.start_gateway()
    yield stand
    stand.close()


class LockedStand(Stand):
    key = "a-key-of-the-tests"


@pytest.fixture(scope="package")
def locked_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The same behind a key."""
    stand = LockedStand(tmp_path_factory.mktemp("gateway"))
    stand.start_executor()
    stand.start_gateway("--api-key", stand.key)
    yield stand
    stand.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page of a gateway. One that leaves an error in the console, or breaks its policy, fails the test."""
    opened: list[Any] = []

    def open_page(stand: Stand, **options: Any) -> Any:
        opened.append(GatewayPage(browser, stand.url, **options))
        return opened[-1]

    yield open_page
    problems = [problem for page in opened for problem in page.problems]
    for page in opened:
        page.close()
    assert problems == []


@pytest.fixture
def page(open_page: Callable[..., Any], gateway_stand: Stand) -> Iterator[Any]:
    """Of the gateway. Leaves no task behind that others would wait for."""
    yield open_page(gateway_stand)
    with gateway_stand.client() as client:
        for video in client.get("/api/v1/videos").json()["videos"]:
            if video["status"] in ("queued", "running"):
                client.delete(f"/api/v1/videos/{video['id']}")
