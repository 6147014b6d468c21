"""One gateway with a fast executor for the tests of a module."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wan_relay.tests.service.gateway.stand import Stand


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
