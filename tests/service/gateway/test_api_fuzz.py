"""`/api/v1` under 2,000 odd bodies, and under schemathesis by its own OpenAPI: nothing but its own words."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from wan_relay.service.contract.failure import CODES
from wan_relay.tests.service.gateway.dialects.fuzz import SECRET, bodies, leaks
from wan_relay.tests.service.gateway.stand import PICTURE, Stand

GOOD = {
    "prompt": "hello", "task_type": "i2v", "image_url": PICTURE, "end_image_url": PICTURE, "negative_prompt": "blur",
    "duration": 5, "resolution": "480p", "aspect_ratio": "16:9", "model": "4step", "enable_prompt_expansion": False,
    "seed": 3, "steps": 4, "cfg": 1.0, "shift": 5.0, "loras": [{"high": "a.safetensors", "high_strength": 1}],
    "webhook_url": "https://example.invalid/told",
}  # fmt: skip
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A gateway without an executor: what is taken, waits."""
    stand = Stand(tmp_path_factory.mktemp("fuzz"))
    stand.start_gateway()
    yield stand
    stand.close()


def test_odd_bodies(still: Stand) -> None:
    statuses: Counter[int] = Counter()
    with still.client() as client:
        for sent in bodies(GOOD, 2000, seed=1):
            content = json.dumps(sent)
            answer = client.post("/api/v1/videos", content=content, headers={"Content-Type": "application/json"})
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (content[:300], answer.text)
            if answer.status_code != 202:
                assert not leaks(answer.text), (content[:300], answer.text)
                error = answer.json()["error"]
                assert set(error) == {"code", "message", "field"}
                assert error["code"] in CODES
                assert 0 < len(error["message"]) < 500
    assert statuses[202] > 20
    assert statuses[400] > 1000
    assert SECRET not in "".join(path.read_text() for path in still.folder.glob("*.err"))
    assert still.errors("service.gateway") == ""


def test_schemathesis_finds_nothing(still: Stand) -> None:
    command = [sys.executable, "-P", "-m", "schemathesis.cli", "run", f"{still.url}/api/v1/openapi.json"]
    command += ["--url", f"{still.url}/api/v1", "--checks", CHECKS, "--max-examples", "25", "--seed", "1"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-time", "30", "--request-timeout", "20", "--no-color"]
    command += ["--exclude-path-regex", "/events$", "--generation-database", "none", "--max-failures", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=still.folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    # It also sends what is no HTTP, which uvicorn answers and says.
    lines = still.errors("service.gateway").splitlines()
    assert [line for line in lines if "Invalid HTTP request received" not in line] == []


def test_an_unknown_task_has_no_events(still: Stand) -> None:
    answer = httpx.get(f"{still.url}/api/v1/videos/unknown/events")
    assert (answer.status_code, json.loads(answer.text)["error"]["code"]) == (404, "NOT_FOUND")


def test_an_address_with_a_line_feed_is_answered_in_the_dialects_words(still: Stand) -> None:
    answer = httpx.get(f"{still.url}/api/v1/videos/a%0Ab")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert httpx.get(f"{still.url}/nothing%0A").json() == {"error": "there is nothing at this address for this method"}
