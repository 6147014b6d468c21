"""Makes the checkout importable as `wan_relay` with ComfyUI beside it, and lends toy models and a running server."""

import faulthandler
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SESSION_LIMIT_S = 80 * 60

spec = importlib.util.spec_from_file_location("wan_relay_dev", ROOT / "dev.py")
assert spec is not None
assert spec.loader is not None
dev = importlib.util.module_from_spec(spec)
sys.modules["wan_relay_dev"] = dev
spec.loader.exec_module(dev)

dev.register_package()
if "COMFYUI_PATH" in os.environ:
    dev.use_comfyui(Path(os.environ["COMFYUI_PATH"]))


def pytest_configure() -> None:
    """The last resort, when the limits in pytest.ini did not help: the session ends showing where each thread stood."""
    faulthandler.dump_traceback_later(SESSION_LIMIT_S, exit=True, file=os.dup(2))


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that holds the toy Wan2.2 family. Tests read it; who writes takes a copy."""
    if "WAN_RELAY_TOY_MODELS" in os.environ:
        return Path(os.environ["WAN_RELAY_TOY_MODELS"])
    from wan_relay.toy.family import ensure_family

    models = tmp_path_factory.mktemp("toy") / "models"
    ensure_family(models)
    return models


@pytest.fixture(scope="session")
def comfy_server(toy_models: Path) -> Iterator[Any]:
    """A real ComfyUI with this pack and the toy family, shared by the session: a `Server`."""
    from wan_relay.tools.comfyui_server import comfyui_server
    from wan_relay.tools.environment import Environment

    env = Environment(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), toy_models, ROOT)
    with comfyui_server(env) as server:
        yield server
