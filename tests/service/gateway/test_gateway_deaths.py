"""kill -9 of the gateway, and what its clients notice: an error at most, and then one answer and one webhook."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from dbos import DBOSClient, DBOSPortableJSONSerializer
from wan_relay.service.tasks.database import database_url
from wan_relay.service.tasks.names import APPLICATION
from wan_relay.tests.service.gateway.postgres import Postgres
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.gateway.webhook_receiver import Receiver
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # many processes are started, on a machine that may be busy

FINAL = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """An executor that lives through it all, and a gateway's port."""
    folder = tmp_path_factory.mktemp("killed")
    settings = {}
    if request.param == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres")
        settings["WAN_RELAY_DATABASE"] = postgres.new_database()
    stand = Stand(folder, **settings)
    stand.start_executor()
    stand.start_gateway(PAUSES_S="0.5")
    yield stand
    stand.close()


def restart(stand: Stand, **odd: str) -> None:
    stand.kill_gateway()
    stand.start_gateway(port=stand.port, PAUSES_S="0.5", **odd)


def post(stand: Stand, body: dict[str, Any]) -> str:
    """A client that comes again where its connection broke; the gateway is started again meanwhile."""
    with stand.client(prefix="/api/v1") as client:
        try:
            return client.post("/videos", json=body).json()["id"]
        except httpx.TransportError:
            assert stand.gateway.wait(20) == -9
            restart(stand)
            return client.post("/videos", json=body).json()["id"]


def videos(stand: Stand, prompt: str) -> list[dict[str, Any]]:
    with stand.client(prefix="/api/v1") as client:
        found = client.get("/videos", params={"limit": 100}).json()["videos"]
    return [video for video in found if video["prompt"] == prompt]


def ended(stand: Stand, video_id: str) -> dict[str, Any]:
    def final() -> Any:
        with stand.client(prefix="/api/v1") as client:
            video = client.get(f"/videos/{video_id}").json()
        return video["status"] in FINAL and video

    return wait_until(final)


def is_recorded(stand: Stand, video_id: str) -> bool:
    """Whether it is written down that the webhook was told. Who is killed before that tells it once more."""
    client = DBOSClient(
        system_database_url=database_url(stand.variables["WAN_RELAY_DATABASE"]),
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
    )
    try:
        found = client.list_workflows(workflow_ids=[f"{video_id}-told"])
        return bool(found) and found[0].status == "SUCCESS"
    finally:
        client.destroy()


@pytest.mark.parametrize(
    "point", ["before_enqueue", "after_enqueue", "while_running", "before_webhook", "between_tries"]
)
def test_every_task_has_one_answer_and_one_webhook(killed: Stand, receiver: Receiver, point: str) -> None:
    prompt = f"{point} slow 1.5"
    body = {"prompt": prompt, "image_url": PICTURE, "webhook_url": receiver.url}
    receiver.is_down = point == "between_tries"
    is_odd = point in ("before_enqueue", "after_enqueue", "before_webhook")
    restart(killed, **({"DIE_AT": point} if is_odd else {}))
    video_id = post(killed, body)
    if point == "while_running":
        wait_until(lambda: videos(killed, prompt)[0]["status"] == "running")
        restart(killed)
    elif point == "before_webhook":
        assert killed.gateway.wait(30) == -9
        restart(killed)
    elif point == "between_tries":
        wait_until(lambda: receiver.num_refused > 1)
        restart(killed)
        wait_until(lambda: receiver.num_refused > 3)
        receiver.is_down = False
    assert ended(killed, video_id)["status"] == "succeeded"
    wait_until(lambda: is_recorded(killed, video_id))
    restart(killed)  # and what was told is not told again
    time.sleep(1.5)
    assert receiver.told == {video_id: 1}
    assert [video["id"] for video in videos(killed, prompt)] == [video_id]
    results = [path for path in (killed.folder / "objects" / "results").rglob("*.mp4") if video_id in str(path)]
    assert len(results) == 1


def test_an_idempotency_key_outlives_the_gateway(killed: Stand) -> None:
    body = {"prompt": "idempotent", "image_url": PICTURE}
    ids = []
    for number in range(2):
        with killed.client(prefix="/api/v1") as client:
            fields = {**body, "seed": number}
            ids.append(client.post("/videos", json=fields, headers={"Idempotency-Key": "k1"}).json()["id"])
        restart(killed)
    assert ids[0] == ids[1]


def test_a_job_is_not_lost_while_it_is_queued_again(killed: Stand) -> None:
    restart(killed)
    sent = {"input": {"prompt": "fail GPU_ERROR", "workflow": "wan22_t2v_4step"}}
    with killed.client(prefix="/runpod/v2/ep") as client:
        failed = client.post("/runsync", json=sent).json()
        restart(killed, DIE_AT="before_enqueue")
        with pytest.raises(httpx.TransportError):
            client.post(f"/retry/{failed['id']}")
        assert killed.gateway.wait(20) == -9
        restart(killed)
        assert client.get(f"/status/{failed['id']}").json() == failed
        assert client.post(f"/retry/{failed['id']}").json() == {"id": failed["id"], "status": "IN_QUEUE"}


def test_ended_by_a_signal_it_answers_who_waits_and_leaves(killed: Stand) -> None:
    restart(killed)
    with killed.client(prefix="/api/v1") as client:
        video_id = client.post("/videos", json={"prompt": "hang", "image_url": PICTURE}).json()["id"]
        with client.stream("GET", f"/videos/{video_id}/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            killed.gateway.terminate()
            list(lines)  # raises where the stream is broken off
        assert killed.gateway.wait(20) == 0
    killed.start_gateway(port=killed.port)
    with killed.client(prefix="/api/v1") as client:
        assert client.delete(f"/videos/{video_id}").status_code == 204
    assert killed.errors("service.gateway") == ""


def test_calls_that_wait_for_their_video_are_told_that_the_gateway_stops(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand().start_gateway()
    with stand.client() as client, ThreadPoolExecutor() as threads:
        fal, cerebrium = (
            threads.submit(client.post, path, json={"prompt": "x", **fields})
            for path, fields in (
                ("/fal/run/fal-ai/wan/v2.2-a14b/image-to-video", {"image_url": PICTURE}),
                ("/cerebrium/v4/project/app/predict?wrapped=true", {}),
            )
        )
        wait_until(lambda: len(stand.journal("task_ordered")) == 2)
        stand.gateway.terminate()
        ids = {line["dialect"]: line["task_id"] for line in stand.journal("task_ordered")}
        said = "the gateway is stopping; the task goes on without this call"
        answer = fal.result()
        assert (answer.status_code, answer.json()) == (
            503,
            {"detail": said, "error_type": "runner_scheduling_failure"},
        )
        assert (answer.headers["x-fal-retryable"], answer.headers["x-fal-request-id"]) == ("true", ids["fal"])
        answer = cerebrium.result()
        result = {"error": f"Internal server error: {said}", "code": "QUEUE_UNAVAILABLE"}
        assert (answer.status_code, answer.json()["run_id"]) == (500, ids["cerebrium"])
        assert answer.json()["result"] == result
    assert stand.gateway.wait(20) == 0
