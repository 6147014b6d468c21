"""RunPod's SDKs for Python and JavaScript, as they are: the rows of providers.md 12."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from wan_relay.tests.service.gateway.node_scripts import Node
from wan_relay.tests.service.gateway.sdks.dropping_proxy import dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until

INPUT = {"prompt": "x", "image_base64": PICTURE.partition(",")[2], "width": 64, "height": 64, "length": 5}


def body(prompt: str = "x", **fields: Any) -> dict[str, Any]:
    return {"input": {**INPUT, "prompt": prompt}, **fields}


def is_video(text: str) -> bool:
    return base64.b64decode(text, validate=True)[4:8] == b"ftyp"


@pytest.fixture
def client(stand: Stand) -> Iterator[httpx.Client]:
    """Leaves nothing running."""
    with stand.client(prefix="/runpod/v2/ep") as client:
        assert client.post("/purge-queue").status_code == 200
        yield client


@pytest.fixture
def endpoint(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of runpod-python."""
    import runpod

    monkeypatch.setattr(runpod, "endpoint_url_base", f"{stand.url}/runpod/v2")
    return runpod.Endpoint("ep", api_key="any")


def test_python_run(client: httpx.Client, endpoint: Any) -> None:
    job = endpoint.run(body()["input"])
    assert is_video(job.output(timeout=60)["video"])
    assert job.status() == "COMPLETED"


def test_python_run_sync(client: httpx.Client, endpoint: Any) -> None:
    assert is_video(endpoint.run_sync(body(), timeout=60)["video"])


def test_python_sees_failed_jobs_as_none(client: httpx.Client, endpoint: Any) -> None:
    job = endpoint.run(body("fail OUT_OF_MEMORY"))
    assert job.output(timeout=60) is None
    assert job.status() == "FAILED"


def test_python_wraps_what_is_falsy(client: httpx.Client, endpoint: Any) -> None:
    import requests

    with pytest.raises(requests.HTTPError) as caught:
        endpoint.run({"input": {}})
    assert caught.value.response.json() == {"error": "MISSING_FIELD: prompt is needed (prompt)"}


def test_python_cancels_streams_and_purges(client: httpx.Client, endpoint: Any) -> None:
    job = endpoint.run(body("slow 6"))
    chunks = list(job.stream())
    assert chunks
    assert {"stage", "step", "steps", "progress", "expert"} == set(chunks[0])
    assert [chunk["step"] for chunk in chunks] == sorted({chunk["step"] for chunk in chunks})
    hanging = endpoint.run(body("hang"))
    wait_until(lambda: hanging.status() == "IN_PROGRESS")
    endpoint.run(body())
    assert endpoint.purge_queue(timeout=30) == {"removed": 1, "status": "completed"}
    assert hanging.cancel(timeout=30)["status"] == "CANCELLED"
    assert hanging.status() == "CANCELLED"
    health = endpoint.health(timeout=30)
    assert set(health) == {"jobs", "workers"}
    assert health["jobs"]["inQueue"] == 0


def test_javascript(client: httpx.Client, stand: Stand, node: Node) -> None:
    patient = 30_000
    calls = [
        ["runSync", body("slow 4"), 1000],
        ["runSync", body(), patient],
        ["run", body("fail OUT_OF_MEMORY"), patient],
        ["statusSync", "$id", patient],
        ["status", "$id", patient],
        ["run", {"input": {}}, patient],
        ["status", "nothing", patient],
        ["run", body("slow 2"), patient],
        ["stream", "$id"],
        ["run", body("hang"), patient],
        ["cancel", "$id", patient],
        ["statusSync", "$id", patient],
        ["health", patient],
        ["purgeQueue", patient],
    ]
    told = node("runpod.mjs", "calls", URL=stand.url, CALLS=json.dumps(calls))
    (
        slow,
        quick,
        run,
        waited,
        status,
        refused,
        unknown,
        run_again,
        chunks,
        hang,
        cancelled,
        final,
        health,
        purged,
        polls,
    ) = told
    assert slow["status"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    assert (quick["status"], quick["completed"], quick["succeeded"]) == ("COMPLETED", True, True)
    assert is_video(quick["output"]["video"])
    assert run["status"] == run_again["status"] == hang["status"] == "IN_QUEUE"
    assert (waited["status"], waited["error"]) == ("FAILED", "OUT_OF_MEMORY: the prompt asked for it")
    assert (status["completed"], status["succeeded"]) == (True, False)
    assert refused["status"] == 400
    assert refused["data"] == {"error": "MISSING_FIELD: prompt is needed (prompt)"}
    assert (unknown["status"], unknown["data"]) == (404, {"error": "NOT_FOUND: job not found"})
    assert all(set(chunk) == {"output"} for chunk in chunks)
    assert cancelled == {"id": hang["id"], "status": "CANCELLED"}
    assert (final["status"], final["completed"]) == ("CANCELLED", True)
    assert set(health) == {"jobs", "workers"}
    assert purged == {"removed": 0, "status": "completed"}
    assert polls <= 3  # two seconds of waiting, each status-sync held for one of them


def test_python_has_the_id_at_once(endpoint: Any) -> None:
    began = time.monotonic()
    job = endpoint.run(body("slow 4"))
    assert (job.status() in ("IN_QUEUE", "IN_PROGRESS"), time.monotonic() - began < 10) == (True, True)
    assert job.cancel(timeout=30)["status"] == "CANCELLED"


def test_python_a_connection_that_breaks_makes_one_job(
    stand: Stand, tasks: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its submits are never repeated by the SDK."""
    import requests
    import runpod

    words = "broken connection of runpod-python"
    with dropping(stand.port, drops=1, pause_s=0.2) as proxy:
        monkeypatch.setattr(runpod, "endpoint_url_base", f"http://127.0.0.1:{proxy.port}/runpod/v2")
        with pytest.raises(requests.ConnectionError):
            runpod.Endpoint("ep", api_key="any").run(body(words))
        assert proxy.posts == 1
    wait_until(lambda: tasks(words) == ["SUCCESS"])


def test_javascript_a_connection_that_breaks_makes_one_job(
    node: Node, stand: Stand, tasks: Callable[[str], list[str]]
) -> None:
    words = "broken connection of runpod-sdk"
    with dropping(stand.port, drops=1, pause_s=0.2) as proxy:
        calls = json.dumps([["run", body(words), 30_000]])
        [said, _] = node("runpod.mjs", "calls", URL=f"http://127.0.0.1:{proxy.port}", CALLS=calls)
        assert said["thrown"]
        assert proxy.posts == 1
    wait_until(lambda: tasks(words) == ["SUCCESS"])


def test_javascript_says_that_the_key_is_wrong(node: Node, keyed_stand: Stand) -> None:
    calls = json.dumps([["run", body(), 30_000]])
    [said, _] = node("runpod.mjs", "calls", URL=keyed_stand.url, KEY="wrong", CALLS=calls)
    assert (said["status"], said["data"]) == (401, {"error": "UNAUTHORIZED: a key of this gateway is not known"})
