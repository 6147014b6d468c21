"""RunPod's endpoints against a running gateway."""

import base64
import shutil
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.gateway.webhook_receiver import Receiver, receiving
from wan_relay.tests.service.worker.conftest import png
from wan_relay.tests.waiting import wait_until

INPUT = {"prompt": "x", "image_base64": PICTURE.partition(",")[2], "width": 64, "height": 64, "length": 5}
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


def body(prompt: str = "x", **fields: Any) -> dict[str, Any]:
    return {"input": {**INPUT, "prompt": prompt}, **fields}


@pytest.fixture
def client(stand: Stand) -> Iterator[httpx.Client]:
    """Leaves nothing running."""
    with stand.client(prefix="/runpod/v2/ep") as client:
        assert client.post("/purge-queue").status_code == 200
        yield client


@pytest.fixture(scope="module")
def told_in_vain(stand: Stand) -> Iterator[Receiver]:
    """A receiver that refuses; it takes 20 s to be called three times, meanwhile the other tests run."""
    with receiving(500) as receiver:
        sent = body(webhook=receiver.url)
        assert stand.client(prefix="/runpod/v2/vain").post("/run", json=sent).status_code == 200
        yield receiver


def started(client: httpx.Client, sent: dict[str, Any]) -> str:
    answer = client.post("/run", json=sent)
    assert (answer.status_code, answer.json()["status"]) == (200, "IN_QUEUE"), answer.text
    assert set(answer.json()) == {"id", "status"}
    found: str = answer.json()["id"]
    return found


def status_of(client: httpx.Client, job_id: str) -> dict[str, Any]:
    answer = client.get(f"/status/{job_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_until(lambda: (job := status_of(client, job_id))["status"] in FINAL and job)
    return found


def is_video(text: str) -> bool:
    return base64.b64decode(text, validate=True)[4:8] == b"ftyp"


def test_run_and_poll(client: httpx.Client, told_in_vain: Receiver) -> None:
    job = ended(client, started(client, body("slow 0.5")))
    assert job["status"] == "COMPLETED"
    assert is_video(job["output"]["video"])
    assert set(job) == {"id", "status", "delayTime", "executionTime", "workerId", "output"}
    assert job["output"]["seed"] >= 0


def test_runsync_waits(client: httpx.Client) -> None:
    answer = client.post("/runsync", json=body())
    job = answer.json()
    assert (answer.status_code, job["status"], job["id"][:5]) == (200, "COMPLETED", "sync-")
    assert is_video(job["output"]["video"])
    assert client.get(f"/status/{job['id']}").json() == job


def test_no_seed_is_drawn_where_the_first_segment_has_its_own(client: httpx.Client) -> None:
    segments = [{"prompt": "x", "length": 5, "seed": 7}, {"prompt": "y", "length": 5}]
    sent = {name: value for name, value in INPUT.items() if name not in ("prompt", "length")} | {"segments": segments}
    assert client.post("/runsync", json={"input": sent}).json()["output"]["seed"] == 7


def test_runsync_waits_no_longer_than_it_was_told(client: httpx.Client) -> None:
    began = time.monotonic()
    answer = client.post("/runsync?wait=1000", json=body("slow 6"))
    assert time.monotonic() - began >= 0.9
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "status"}
    assert answer.json()["status"] in ("IN_QUEUE", "IN_PROGRESS")
    job_id = answer.json()["id"]
    began = time.monotonic()
    held = client.get(f"/status-sync/{job_id}?wait=1000").json()
    assert time.monotonic() - began >= 0.9 or held["status"] == "COMPLETED"
    job = client.get(f"/status-sync/{job_id}?wait=50000").json()
    assert (job["status"], is_video(job["output"]["video"])) == ("COMPLETED", True)


@pytest.mark.parametrize("path", ["/runsync?wait=999", "/runsync?wait=300001", "/runsync?wait=x"])
def test_waits_out_of_bounds(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=body())
    said = "OUT_OF_RANGE: wait must be a whole number of milliseconds from 1000 to 300000 (wait)"
    assert (answer.status_code, answer.json()) == (400, {"error": said})


def test_a_job_that_fails(client: httpx.Client) -> None:
    job = client.post("/runsync", json=body("fail OUT_OF_MEMORY")).json()
    assert (job["status"], job["error"]) == ("FAILED", "OUT_OF_MEMORY: the prompt asked for it")
    assert "output" not in job


def test_an_execution_timeout_ends_the_job(client: httpx.Client) -> None:
    job = ended(client, started(client, body("hang", policy={"executionTimeout": 5000})))
    assert job["status"] == "TIMED_OUT"
    assert job["error"] == "TIMEOUT: the task did not finish within 5 s"


def test_cancel(client: httpx.Client) -> None:
    job_id = started(client, body("hang"))
    wait_until(lambda: status_of(client, job_id)["status"] == "IN_PROGRESS")
    for _ in range(2):
        answer = client.post(f"/cancel/{job_id}", json={})
        assert (answer.status_code, answer.json()) == (200, {"id": job_id, "status": "CANCELLED"})
    assert status_of(client, job_id)["status"] == "CANCELLED"
    assert client.post("/runsync", json=body()).json()["status"] == "COMPLETED"


def test_a_finished_job_stays_what_it_is(client: httpx.Client) -> None:
    job_id = client.post("/runsync", json=body()).json()["id"]
    assert client.post(f"/cancel/{job_id}").json() == {"id": job_id, "status": "COMPLETED"}
    answer = client.post(f"/retry/{job_id}")
    said = "CONFLICT: only FAILED and TIMED_OUT jobs can be retried"
    assert (answer.status_code, answer.json()) == (400, {"error": said})


def test_a_failed_job_is_retried_under_its_id_and_told_again(client: httpx.Client) -> None:
    retried = client.get("/health").json()["jobs"]["retried"]
    with receiving() as receiver:
        job_id = started(client, body("fail GPU_ERROR slow 1", webhook=receiver.url))
        assert ended(client, job_id)["status"] == "FAILED"
        wait_until(lambda: len(receiver.bodies) == 1)
        answer = client.post(f"/retry/{job_id}")
        assert (answer.status_code, answer.json()) == (200, {"id": job_id, "status": "IN_QUEUE"})
        wait_until(lambda: status_of(client, job_id)["status"] == "IN_PROGRESS")
        assert ended(client, job_id)["error"] == "GPU_ERROR: the prompt asked for it"
        wait_until(lambda: len(receiver.bodies) == 2)
    assert client.get("/health").json()["jobs"]["retried"] == retried + 1


def test_a_job_that_timed_out_has_its_whole_time_again(client: httpx.Client) -> None:
    before = started(client, body("hang"))
    job_id = started(client, body(policy={"ttl": 10_000}))
    assert ended(client, job_id)["status"] == "TIMED_OUT"
    assert client.post(f"/retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    time.sleep(1.5)  # deadlines are looked at twice a second
    assert status_of(client, job_id)["status"] == "IN_QUEUE"
    client.post(f"/cancel/{before}")
    job = ended(client, job_id)
    assert (job["status"], job["delayTime"] < 10_000) == ("COMPLETED", True)


def test_purge_queue_leaves_what_runs(client: httpx.Client, stand: Stand) -> None:
    running = started(client, body("hang"))
    wait_until(lambda: status_of(client, running)["status"] == "IN_PROGRESS")
    waiting = [started(client, body(f"waits {n}")) for n in range(3)]
    with stand.client(prefix="/runpod/v2/other") as other:
        elsewhere = started(other, body("elsewhere"))
        health = client.get("/health").json()
        assert (health["jobs"]["inProgress"], health["jobs"]["inQueue"]) == (1, 3)
        assert health["workers"] == {
            "idle": 0,
            "initializing": 0,
            "ready": 1,
            "running": 1,
            "throttled": 0,
            "unhealthy": 0,
        }
        answer = client.post("/purge-queue")
        assert (answer.status_code, answer.json()) == (200, {"removed": 3, "status": "completed"})
        assert {status_of(client, job_id)["status"] for job_id in waiting} == {"CANCELLED"}
        assert status_of(client, running)["status"] == "IN_PROGRESS"
        assert status_of(other, elsewhere)["status"] == "IN_QUEUE"
        assert client.get(f"/status/{elsewhere}").status_code == 404
        client.post(f"/cancel/{running}")
        assert ended(other, elsewhere)["status"] == "COMPLETED"


@pytest.mark.parametrize("prompt", ["told", "fail INVALID_IMAGE"])
def test_the_webhook_gets_the_jobs_object(client: httpx.Client, prompt: str) -> None:
    with receiving() as receiver:
        job_id = started(client, body(prompt, webhook=receiver.url))
        job = ended(client, job_id)
        wait_until(lambda: receiver.bodies)
        assert receiver.bodies == [job]


def test_a_link_for_whom_wants_one(client: httpx.Client) -> None:
    output = client.post("/runsync", json={"input": {**INPUT, "delivery": "url"}}).json()["output"]
    assert "video" not in output
    assert httpx.get(output["video_url"]).content[4:8] == b"ftyp"


def test_a_picture_in_a_data_uri_lies_in_the_store_whatever_its_field(client: httpx.Client, stand: Stand) -> None:
    pictures = {png((64, 48)), png((48, 48))}
    first, last = (f" data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures)
    small = {"prompt": "x", "width": 64, "height": 64, "length": 5}
    sent = {**small, "workflow": "wan22_flf2v_4step", "image_url": first, "end_image_url": last}
    job_id = started(client, {"input": sent})
    assert {file.read_bytes() for file in (stand.folder / "objects" / "inputs" / job_id).iterdir()} == pictures
    assert ended(client, job_id)["status"] == "COMPLETED"
    with sqlite3.connect(stand.folder / "tasks.sqlite") as database:
        [[order]] = database.execute("SELECT inputs FROM workflow_input WHERE workflow_uuid = ?", [job_id])
    assert "base64," not in order


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.com/" + "a" * 8000, "INVALID_URL: image_url must be at most 8000 characters, got 8020"),
        ("file:///etc/passwd", "INVALID_URL: image_url must be an http or https URL"),
        ("data:image/png,AAAA", "INVALID_IMAGE: image_url is a data URI that is not base64"),
    ],
)
def test_an_image_url_that_no_worker_takes_is_not_queued(client: httpx.Client, url: str, said: str) -> None:
    answer = client.post("/run", json={"input": {"prompt": "x", "image_url": url}})
    assert (answer.status_code, answer.json()) == (400, {"error": f"{said} (image_url)"})


@pytest.mark.parametrize("call", ["run", "runsync"])
def test_a_ping_is_answered_at_once_and_for_ever(client: httpx.Client, call: str) -> None:
    answer = client.post(f"/{call}", json={"input": {"action": "ping"}})
    job = answer.json()
    assert (answer.status_code, job["status"], job["output"]["status"]) == (200, "COMPLETED", "ready")
    assert job["output"]["workers"]["ready"] == 1
    for path in ("status", "status-sync"):
        assert client.get(f"/{path}/{job['id']}").json()["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("POST", "/run", b"{", 400, "INVALID_INPUT: the body is not JSON"),
        ("POST", "/run", b'"x"', 400, "INVALID_INPUT: the body must be a JSON object"),
        ("POST", "/run", b'{"input": {"cfg": NaN}}', 400, "INVALID_INPUT: the body is not JSON"),
        ("POST", "/run", b'{"inputs": {}}', 400, "MISSING_FIELD: input is needed (input)"),
        ("GET", "/status/nothing", None, 404, "NOT_FOUND: job not found"),
        ("GET", "/status-sync/nothing", None, 404, "NOT_FOUND: job not found"),
        ("GET", "/stream/nothing", None, 404, "NOT_FOUND: job not found"),
        ("POST", "/cancel/nothing", b"", 404, "NOT_FOUND: job not found"),
        ("POST", "/retry/nothing", b"", 404, "NOT_FOUND: job not found"),
        ("GET", "/nothing", None, 404, "NOT_FOUND: there is nothing at this address"),
        ("POST", f"/../{'e' * 65}/run", b'{"input": {}}', 404, "NOT_FOUND: endpoint not found"),
        ("GET", "/run", None, 405, "METHOD_NOT_ALLOWED: GET is not what this address takes"),
    ],
)
def test_every_refusal_is_one_sentence(
    client: httpx.Client, method: str, path: str, content: bytes | None, status: int, error: str
) -> None:
    answer = client.request(method, path, content=content)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_a_job_of_another_dialect_is_none_of_this(client: httpx.Client, stand: Stand) -> None:
    other = stand.client(prefix="/api/v1").post("/videos", json={"prompt": "x", "image_url": PICTURE}).json()["id"]
    assert client.get(f"/status/{other}").status_code == 404


def test_an_idempotency_key_counts_at_its_own_address(client: httpx.Client, stand: Stand) -> None:
    headers = {"Idempotency-Key": "one"}
    other = {"model": "Wan-AI/Wan2.2-I2V", "input": {"prompt": "x", "first_frame_url": PICTURE}}
    answer = stand.client(prefix="/modelverse/v1").post("/tasks/submit", json=other, headers=headers)
    jobs = {client.post("/run", json=body(), headers=headers).json()["id"] for _ in range(2)}
    assert len(jobs) == 1
    assert jobs != {answer.json()["output"]["task_id"]}
    assert client.post("/runsync", json=body(), headers=headers).json()["status"] == "COMPLETED"


def test_a_job_whose_picture_went_is_not_retried(client: httpx.Client, stand: Stand) -> None:
    job = client.post("/runsync", json=body("fail GPU_ERROR")).json()
    shutil.rmtree(stand.folder / "objects" / "inputs" / job["id"].removeprefix("sync-"))
    answer = client.post(f"/retry/{job['id']}")
    said = "NOT_FOUND: the task's pictures are kept no longer; send it anew"
    assert (answer.status_code, answer.json()) == (404, {"error": said})
    assert client.get(f"/status/{job['id']}").json() == job


def test_a_webhook_that_is_down_is_called_three_times(told_in_vain: Receiver) -> None:
    wait_until(lambda: len(told_in_vain.bodies) == 3)
    assert told_in_vain.bodies[0]["status"] == "COMPLETED"
    assert told_in_vain.bodies[0] == told_in_vain.bodies[1] == told_in_vain.bodies[2]


def test_nothing_else_was_said_to_standard_error(stand: Stand) -> None:
    lines = stand.errors("service.gateway").splitlines()
    assert [line for line in lines if '"event": "webhook"' not in line] == []
