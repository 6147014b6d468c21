"""A store of each kind, empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from wan_relay.service.store.object_store import ObjectStore
from wan_relay.service.store.open_store import open_store
from wan_relay.tests.service.store.s3_server import BUCKET, KEYS, S3Server, moto_server, s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    program = moto_server()
    if program is None:
        pytest.skip("moto_server is not installed")
    with s3_server(program) as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    s3: S3Server = request.getfixturevalue("s3")
    s3.empty()
    return open_store(f"s3://{BUCKET}/a/prefix", endpoint_url=s3.endpoint_url, **KEYS)
