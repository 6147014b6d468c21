"""A store that is gone or full: said in words, nothing is queued, and all goes on when it is back."""

from collections.abc import Callable

from wan_relay.tests.service.gateway.calls import ended, order
from wan_relay.tests.service.gateway.fake_bucket import FakeBucket
from wan_relay.tests.service.gateway.stand import Stand

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


def test_a_store_that_is_full_for_a_while(make_stand: MakeStand) -> None:
    bucket = FakeBucket()
    try:
        stand = make_stand(
            WAN_RELAY_STORE="s3://bucket/prefix",
            WAN_RELAY_STORE_ENDPOINT_URL=bucket.url,
            WAN_RELAY_STORE_REGION="here",
            WAN_RELAY_STORE_KEY_ID="id",
            WAN_RELAY_STORE_SECRET="secret",
        )
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
    finally:
        bucket.close()
