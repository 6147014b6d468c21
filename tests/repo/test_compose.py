"""compose.yaml names settings, files and build targets that there are. Docker itself is not asked."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from wan_relay.service.executors.settings import ExecutorSettings
from wan_relay.service.gateway.settings import GatewaySettings
from wan_relay.service.worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SETTINGS = {"gateway": (GatewaySettings,), "worker": (ExecutorSettings, Settings)}


@pytest.mark.parametrize("service", SETTINGS)
def test_a_services_variables_are_settings(service: str) -> None:
    known = {info.alias for settings in SETTINGS[service] for info in settings.model_fields.values()}
    assert set(COMPOSE["services"][service]["environment"]) <= known


def test_both_share_the_database_and_the_store() -> None:
    shared = COMPOSE["x-shared"]
    assert {"WAN_RELAY_DATABASE", "WAN_RELAY_STORE"} <= set(shared)
    for service in SETTINGS:
        assert shared.items() <= COMPOSE["services"][service]["environment"].items()
    values = {name: re.sub(r"\$\{.*?\}", "word", value) for name, value in shared.items()}
    settings = GatewaySettings.from_environment({**values, "WAN_RELAY_API_KEYS": "a,b"})
    assert settings.api_keys == ("a", "b")


def test_what_is_built_is_there() -> None:
    for service in COMPOSE["services"].values():
        if build := service.get("build"):
            text = (ROOT / build["dockerfile"]).read_text()
            assert build.get("target") is None or f"AS {build['target']}\n" in text
            for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
                assert (ROOT / source).exists()


def test_what_it_depends_on_is_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            name = volume.partition(":")[0]
            assert name in COMPOSE["volumes"] or name.startswith("${")
