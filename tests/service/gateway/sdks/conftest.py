"""Gateways for the official SDKs: one for all, one that speaks HTTPS, one that needs a key."""

import json
from collections.abc import Callable, Iterator

import pytest
from dbos import DBOSClient, DBOSPortableJSONSerializer
from wan_relay.service.gateway.keys import KeyLimits, Keys
from wan_relay.service.tasks.database import database_url, own_engine
from wan_relay.service.tasks.names import APPLICATION, RENDER_WORKFLOW
from wan_relay.tests.service.gateway.sdks.slow_expander import SlowExpander
from wan_relay.tests.service.gateway.stand import Stand


@pytest.fixture(scope="package")
def expander() -> Iterator[SlowExpander]:
    with SlowExpander.serving() as expander:
        yield expander


@pytest.fixture(scope="package")
def stand(tmp_path_factory: pytest.TempPathFactory, expander: SlowExpander) -> Iterator[Stand]:
    """Without a key, for all the SDKs; whoever lets a task hang cancels it."""
    stand = Stand(tmp_path_factory.mktemp("sdks"), WAN_RELAY_EXPANDER_URL=expander.url)
    stand.start_executor()
    stand.start_gateway()
    yield stand
    stand.close()


@pytest.fixture(scope="package")
def tls_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A gateway that speaks HTTPS by an authority of its own."""
    stand = Stand(tmp_path_factory.mktemp("tls"))
    stand.start_executor()
    stand.start_gateway("--tls")
    yield stand
    stand.close()


class KeyedStand(Stand):
    """The keys are `sesame`, and one that may start one task a minute."""

    once_a_minute = ""


@pytest.fixture(scope="package")
def keyed_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedStand]:
    """A gateway that needs a key, with nobody who renders."""
    stand = KeyedStand(tmp_path_factory.mktemp("keyed"))
    keys = Keys(own_engine(database_url(stand.variables["WAN_RELAY_DATABASE"])))
    stand.once_a_minute = keys.add("once a minute", KeyLimits(per_minute=1))
    stand.start_gateway("--api-key", "sesame")
    yield stand
    stand.close()


class LimitedStand(Stand):
    """Its key may have one task running."""

    one_at_a_time = ""


@pytest.fixture(scope="package")
def limited_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LimitedStand]:
    """A gateway with two executors."""
    stand = LimitedStand(tmp_path_factory.mktemp("limited"))
    keys = Keys(own_engine(database_url(stand.variables["WAN_RELAY_DATABASE"])))
    stand.one_at_a_time = keys.add("team", KeyLimits(running=1))
    stand.start_executor()
    stand.start_executor("fast-2")
    stand.start_gateway()
    yield stand
    stand.close()


@pytest.fixture
def tasks(stand: Stand) -> Iterator[Callable[[str], list[str]]]:
    """`tasks("some words")`: how the tasks stand whose orders hold them, by the queue itself."""
    client = DBOSClient(
        system_database_url=database_url(stand.variables["WAN_RELAY_DATABASE"]),
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
    )

    def find(words: str) -> list[str]:
        found = client.list_workflows(name=RENDER_WORKFLOW, load_output=False)
        return [status.status for status in found if words in json.dumps(status.input)]

    yield find
    client.destroy()
