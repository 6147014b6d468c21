"""Who may call, in each dialect's words: keys in every form that clients send, and tasks that are nobody else's."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until

KEYS = ("first-key", "second-key")
SMALL = {"prompt": "x", "width": 64, "height": 64}
RUNPOD = {"input": {**SMALL, "image_base64": PICTURE}}
CEREBRIUM = {**SMALL, "num_frames": 25}
MODELVERSE = {"model": "Wan-AI/Wan2.2-I2V", "input": {"first_frame_url": PICTURE, "prompt": "x"}}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """With two keys."""
    stand = Stand(tmp_path_factory.mktemp("gateway"), WAN_RELAY_API_KEYS=",".join(KEYS))
    stand.start_executor()
    stand.start_gateway()
    yield stand
    stand.close()


CALLS = [
    ("POST", "/runpod/v2/ep/run", RUNPOD, 200),
    ("GET", "/runpod/v2/ep/health", None, 200),
    ("POST", "/cerebrium/v4/p/a/predict?async=true", CEREBRIUM, 202),
    ("POST", "/modelverse/v1/tasks/submit", MODELVERSE, 200),
]


@pytest.mark.parametrize(("method", "path", "sent", "status"), CALLS)
@pytest.mark.parametrize("authorization", ["Bearer first-key", "first-key", "bearer  first-key"])
def test_a_key_is_taken_as_it_comes(
    stand: Stand, method: str, path: str, sent: Any, status: int, authorization: str
) -> None:
    answer = httpx.request(method, stand.url + path, json=sent, headers={"Authorization": authorization})
    assert answer.status_code == status, answer.text


def said(answer: httpx.Response) -> Any:
    """The words of a refusal, without the id that it has."""
    body = answer.json()
    if isinstance(body["error"], dict):
        assert body["error"].pop("param")
    return body


UNKNOWN = "a key of this gateway is not known"
MISSING = "a key of this gateway is needed in the header Authorization"


@pytest.mark.parametrize(("method", "path", "sent", "status"), CALLS)
@pytest.mark.parametrize(("headers", "sentence"), [({}, MISSING), ({"Authorization": "Bearer wrong-key"}, UNKNOWN)])
def test_without_a_known_key_it_is_401(
    stand: Stand, method: str, path: str, sent: Any, status: int, headers: dict[str, str], sentence: str
) -> None:
    answer = httpx.request(method, stand.url + path, json=sent, headers=headers)
    assert answer.status_code == 401
    assert "wrong-key" not in answer.text
    expected = {
        "runpod": {"error": f"UNAUTHORIZED: {sentence}"},
        "cerebrium": {"error": f"Unauthorized: {sentence}", "code": "UNAUTHORIZED"},
        "modelverse": {
            "error": {"message": sentence, "type": "invalid_request_error", "code": "auth_error"},
        },
    }[path.split("/")[1]]
    assert said(answer) == expected


def test_a_task_is_its_owners(stand: Stand) -> None:
    own, other = (stand.client(key) for key in KEYS)
    job = own.post("/runpod/v2/ep/run", json=RUNPOD).json()["id"]
    task_id = own.post("/modelverse/v1/tasks/submit", json=MODELVERSE).json()["output"]["task_id"]
    assert own.get(f"/runpod/v2/ep/status/{job}").status_code == 200
    assert other.get(f"/runpod/v2/ep/status/{job}").status_code == 404
    assert other.post(f"/runpod/v2/ep/cancel/{job}").status_code == 404
    assert other.get(f"/modelverse/v1/tasks/status?task_id={task_id}").status_code == 400
    assert other.get("/runpod/v2/ep/health").json()["jobs"]["inQueue"] == 0
    assert other.post("/runpod/v2/ep/purge-queue").json()["removed"] == 0


def test_the_python_sdk_says_that_the_key_is_wrong(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpod

    monkeypatch.setattr(runpod, "endpoint_url_base", f"{stand.url}/runpod/v2")
    with pytest.raises(RuntimeError, match="401"):
        runpod.Endpoint("ep", api_key="wrong-key").run(RUNPOD)
    job = runpod.Endpoint("ep", api_key=KEYS[0]).run(RUNPOD)
    wait_until(lambda: job.status() == "COMPLETED")


def test_a_key_that_asks_too_much_is_told_when_to_come_again(stand: Stand) -> None:
    made = stand.run("service.gateway", "keys", "add", "slow one", "--per-minute", "1")
    key = made.stdout.strip()
    client = stand.client(key)
    wait_until(lambda: client.get("/runpod/v2/ep/health").status_code == 200)
    assert client.post("/runpod/v2/ep/run", json=RUNPOD).status_code == 200
    for path, sent in (
        ("/runpod/v2/ep/run", RUNPOD),
        ("/cerebrium/v4/p/a/predict", CEREBRIUM),
        ("/modelverse/v1/tasks/submit", MODELVERSE),
    ):
        answer = client.post(path, json=sent)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert "this key may start 1 tasks a minute" in answer.text
