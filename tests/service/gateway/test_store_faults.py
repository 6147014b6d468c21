"""A store that is gone or full: said in words, nothing is queued, and all goes on when it is back."""

from collections.abc import Callable, Iterator

import pytest
from wan_relay.tests.service.gateway.calls import ended, order
from wan_relay.tests.service.gateway.fake_bucket import FakeBucket
from wan_relay.tests.service.gateway.stand import Stand
from wan_relay.tests.service.gateway.webhook_receiver import Receiver
from wan_relay.tests.waiting import wait_until

MakeStand = Callable[..., Stand]


def test_a_store_that_is_gone_for_a_while(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.start_executor()
    stand.start_gateway()
    folder, elsewhere = stand.folder / "objects", stand.folder / "elsewhere"
    before = ended(stand, order(stand, "before").json()["id"])
    folder.rename(elsewhere)
    answer = order(stand, "meanwhile")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        {"code": "STORE_UNAVAILABLE", "message": "the gateway's store does not answer", "field": None},
    )
    assert answer.headers["retry-after"] == "5"
    with stand.client() as client:
        file = client.get(before["video"]["url"])
        assert (file.status_code, file.json()) == (503, {"error": "the object store's folder is gone"})
        deleted = client.delete(f"/api/v1/videos/{before['id']}")
        assert (deleted.status_code, deleted.json()["error"]["code"]) == (503, "STORE_UNAVAILABLE")
    elsewhere.rename(folder)
    assert ended(stand, order(stand, "after").json()["id"])["status"] == "succeeded"
    with stand.client() as client:
        assert client.get(before["video"]["url"]).status_code == 200
        assert client.delete(f"/api/v1/videos/{before['id']}").status_code == 204
        prompts = [video["prompt"] for video in client.get("/api/v1/videos").json()["videos"]]
    assert prompts == ["after"]


@pytest.fixture
def bucket() -> Iterator[FakeBucket]:
    bucket = FakeBucket()
    yield bucket
    bucket.close()


def settings_for(bucket: FakeBucket) -> dict[str, str]:
    return {
        "WAN_RELAY_STORE": "s3://bucket/prefix",
        "WAN_RELAY_STORE_ENDPOINT_URL": bucket.url,
        "WAN_RELAY_STORE_REGION": "here",
        "WAN_RELAY_STORE_KEY_ID": "id",
        "WAN_RELAY_STORE_SECRET": "secret",
    }


def test_a_store_that_is_full_for_a_while(make_stand: MakeStand, bucket: FakeBucket) -> None:
    stand = make_stand(**settings_for(bucket))
    stand.start_gateway()
    bucket.is_full = True
    answer = order(stand, "full")
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "STORE_FULL")
    assert answer.json()["error"]["message"] == "the gateway's store is full"
    assert answer.headers["retry-after"] == "60"
    bucket.is_full = False
    assert order(stand, "again").json()["status"] == "queued"
    with stand.client() as client:
        assert [video["prompt"] for video in client.get("/api/v1/videos").json()["videos"]] == ["again"]


def test_a_webhook_whose_video_cannot_be_read_for_a_while_is_told_later(
    make_stand: MakeStand, bucket: FakeBucket, receiver: Receiver
) -> None:
    stand = make_stand(**settings_for(bucket))
    stand.start_executor()
    stand.start_gateway()
    bucket.is_unreadable = True
    sent = {"input": {"prompt": "x", "workflow": "wan22_t2v_4step"}, "webhook": receiver.url}
    with stand.client(prefix="/runpod/v2/ep") as client:
        job_id = client.post("/run", json=sent).json()["id"]
        wait_until(lambda: stand.journal("webhook"))
        bucket.is_unreadable = False
        wait_until(lambda: receiver.bodies, limit_s=40)
        assert receiver.bodies == [client.get(f"/status/{job_id}").json()]
    wait_until(lambda: len(stand.journal("webhook")) == 2)
    assert [line["said"] for line in stand.journal("webhook")] == ["STORE_UNAVAILABLE", "told"]
