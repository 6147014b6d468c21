"""A gateway that needs a key, for what all dialects answer before there is a task."""

from collections.abc import Iterator

import pytest
from wan_relay.tests.service.gateway.stand import Stand


@pytest.fixture(scope="package")
def keyed_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The key is `sesame`, and nobody renders."""
    stand = Stand(tmp_path_factory.mktemp("keyed"))
    stand.start_gateway("--api-key", "sesame")
    yield stand
    stand.close()
