"""The pre-release of Replicate's next Python client, in a virtual environment of its own."""

import base64
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replicate.client import Client
from wan_relay.tests.service.gateway.sdks.dropping_proxy import dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand

VERSION = "2.0.0b4"
CHECKS = Path(__file__).with_name("replicate2_checks.py")
CONTENT = base64.b64decode(PICTURE.partition(",")[2])
Check = Callable[..., Any]


@pytest.fixture(scope="session")
def python2() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "wan-relay"
    folder = cache / f"replicate-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"replicate=={VERSION}"]
            for command in ([sys.executable, "-m", "venv", folder], install):
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)
                if done.returncode:
                    pytest.skip(f"replicate {VERSION} cannot be installed: {done.stderr.strip()[-300:]}")
            (folder / "done").touch()
    return python


@pytest.fixture
def check(python2: Path, stand: Stand) -> Check:
    def run(name: str, **variables: str) -> Any:
        known = {"REPLICATE_BASE_URL": f"{stand.url}/replicate/v1", "REPLICATE_API_TOKEN": "anything"}
        done = subprocess.run(
            [python2, "-P", CHECKS, name],
            env=os.environ | known | {"PICTURE": PICTURE, "CONTENT": CONTENT.hex()} | variables,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


def test_run(check: Check, stand: Stand) -> None:
    assert check("run").startswith(f"{stand.url}/files/")
    assert check("slow").startswith(f"{stand.url}/files/")


def test_the_base_address_without_v1(check: Check, stand: Stand) -> None:
    assert check("run", REPLICATE_BASE_URL=f"{stand.url}/replicate").startswith("http")


def test_predictions(check: Check) -> None:
    assert check("predictions") == ["starting", True, "canceled"]
    assert check("version") == "succeeded"


@pytest.mark.parametrize("way", ["file", "file_as_base64"])
def test_a_file_in_the_input_is_seen(check: Check, way: str) -> None:
    assert check(way) == [f"image_base64 {hashlib.sha256(CONTENT).hexdigest()}"]


def test_a_bad_field(check: Check) -> None:
    assert check("bad_field") == [422, "input.num_frames"]


def test_a_failure(check: Check) -> None:
    name, text = check("failure")
    assert (name, "NO_OUTPUT: the prompt asked for it" in text) == ("ModelError", True)


def test_a_wrong_key(check: Check, keyed_stand: Stand) -> None:
    assert check("wrong_key", REPLICATE_BASE_URL=f"{keyed_stand.url}/replicate/v1", REPLICATE_API_TOKEN="no") == 401


def test_a_connection_that_breaks_makes_one_job(check: Check, stand: Stand, tasks: Callable[[str], list[str]]) -> None:
    words = "broken connection of replicate 2.x"
    with dropping(stand.port, drops=2) as proxy:
        base = f"http://127.0.0.1:{proxy.port}/replicate/v1"
        assert check("submit", REPLICATE_BASE_URL=base, WORDS=words) == "succeeded"
        assert proxy.posts == 3
    assert tasks(words) == ["SUCCESS"]


def test_over_tls_the_output_is_a_file(check: Check, tls_stand: Stand) -> None:
    variables = {"SSL_CERT_FILE": str(tls_stand.folder / "tls" / "ca.crt")}
    assert check("output", REPLICATE_BASE_URL=f"{tls_stand.url}/replicate/v1", **variables) == "ftyp"


def test_a_webhooks_secret_is_found(check: Check) -> None:
    assert check("secret").startswith("whsec_")


def test_after_an_hour_the_data_is_removed(check: Check, make_stand: Callable[..., Stand], tmp_path: Path) -> None:
    """Both clients, and a gateway whose clock goes on while nobody looks."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    stand = make_stand()
    stand.start_executor()
    stand.start_gateway(CLOCK_FILE=str(clock))
    client = Client(base_url=f"{stand.url}/replicate", api_token="anything")
    prediction = client.predictions.create("wan-video/wan-2.2-t2v-fast", input={"prompt": "kept for an hour"})
    prediction.wait()
    base = f"{stand.url}/replicate/v1"
    assert check("shown", REPLICATE_BASE_URL=base, ID=prediction.id) == ["succeeded", prediction.output, False]
    clock.write_text("3700")
    prediction.reload()
    assert (prediction.status, prediction.output, prediction.input, prediction.logs) == ("succeeded", None, {}, "")
    assert check("shown", REPLICATE_BASE_URL=base, ID=prediction.id) == ["succeeded", None, True]
