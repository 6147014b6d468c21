"""The official SDKs, unmodified: Python's from the test environment, npm's installed once into the cache."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOSClient, DBOSPortableJSONSerializer
from wan_relay.service.gateway.keys import KeyLimits, Keys
from wan_relay.service.tasks.database import database_url, own_engine
from wan_relay.service.tasks.names import APPLICATION, RENDER_WORKFLOW
from wan_relay.tests.service.gateway.sdks.slow_expander import SlowExpander
from wan_relay.tests.service.gateway.stand import Stand

NODE = Path(__file__).parent / "node"
INSTALL_S = 600
RUN_S = 120


@pytest.fixture(scope="package")
def node_modules() -> Path:
    """The packages of node/package-lock.json."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("there is no npm, so the JavaScript SDKs are not tried")
    lock = (NODE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "wan-relay"
    folder = cache / f"sdks-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another run of the tests may install them at the same time
        if not (folder / "done").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(NODE / name, folder)
            command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
            if done.returncode:
                pytest.skip(f"the JavaScript SDKs cannot be installed: {done.stderr.strip()[-300:]}")
            (folder / "done").touch()
    return folder / "node_modules"


@pytest.fixture
def node(node_modules: Path, tmp_path: Path) -> Callable[..., Any]:
    """`node("fal.mjs", "check", **variables)`: what one check of a script prints as JSON."""

    def run(script: str, check: str, **variables: str) -> Any:
        folder = tmp_path / "node"
        if not folder.exists():
            folder.mkdir()
            (folder / "node_modules").symlink_to(node_modules)
        shutil.copy(NODE / script, folder)
        done = subprocess.run(
            ["node", str(folder / script), check],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        assert done.returncode == 0, f"{script} {check}: {done.stderr[-3000:]}"
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


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
