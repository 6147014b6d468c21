"""One deployment for the tests of a module, with one machine that runs: once local, once with a RunPod endpoint."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from wan_relay.tests.service.executors.deployment import Deployment, Machine, deployed


class Site(NamedTuple):
    here: Deployment
    machine: Machine


@pytest.fixture(scope="module", params=["local", "runpod"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with deployed(tmp_path_factory.mktemp(request.param), kind=request.param) as here:
        yield Site(here, here.machine().start().ready())
    here.wait_no_process()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """Nothing is left of a test but the results that it names."""
    running.machine.configure()
    yield running
    running.machine.configure()
    assert running.machine.left_files() == []
