"""The providers' JavaScript SDKs."""

import os
import shutil
from pathlib import Path

import pytest
from wan_relay.tests.service.gateway.node_packages import Node, installed_packages


@pytest.fixture(scope="package")
def node() -> Node:
    """Installs what is missing; skipped where there is no npm."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wan-relay"
    cache.mkdir(parents=True, exist_ok=True)
    return Node(installed_packages(cache))
