"""Gateways with fast executors, a PostgreSQL server, a webhook's receiver and the providers' JavaScript SDKs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wan_relay.tests.service.gateway.node_scripts import Node, sdk_packages
from wan_relay.tests.service.gateway.postgres import Postgres
from wan_relay.tests.service.gateway.stand import Stand
from wan_relay.tests.service.gateway.webhook_receiver import Receiver
from wan_relay.tools.npm_packages import has_npm


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Without a key."""
    stand = Stand(tmp_path_factory.mktemp("gateway"))
    stand.start_executor()
    stand.start_gateway()
    yield stand
    stand.close()


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """For tests that kill: `make_stand(**settings)` has no process yet."""
    made: list[Stand] = []

    def make(**settings: str) -> Stand:
        folder = tmp_path / f"stand-{len(made)}"
        folder.mkdir()
        made.append(Stand(folder, **settings))
        return made[-1]

    yield make
    for stand in made:
        stand.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The SDKs are installed once, in the cache."""
    if not has_npm():
        pytest.skip("there is no npm, so the JavaScript SDKs are not tried")
    return Node(sdk_packages(), tmp_path_factory.mktemp("node"))
