"""PostgreSQL restarted, gone and back, and shared by two gateways; SQLite held by somebody else."""

import sqlite3
import time
from collections.abc import Callable

import httpx
import pytest
from wan_relay.tests.service.gateway.calls import ended, order, running_on, video
from wan_relay.tests.service.gateway.postgres import Postgres
from wan_relay.tests.service.gateway.stand import Stand
from wan_relay.tests.service.gateway.webhook_receiver import Receiver
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # many processes are started, on a machine that may be busy

MakeStand = Callable[..., Stand]
SENTENCE = "the gateway's database does not answer"


def test_postgres_is_restarted_in_mid_job(make_stand: MakeStand, postgres: Postgres, receiver: Receiver) -> None:
    stand = make_stand(WAN_RELAY_DATABASE=postgres.new_database(), WAN_RELAY_SILENT_S="5")
    stand.start_executor()
    stand.start_gateway()
    video_id = order(stand, "slow 8", webhook_url=receiver.url).json()["id"]
    running_on(stand, video_id)
    postgres.stop()
    postgres.start()
    assert ended(stand, video_id)["status"] == "succeeded"
    wait_until(lambda: receiver.told)
    assert receiver.told == {video_id: 1}
    assert stand.journal("lost") == []


def test_postgres_is_gone_for_a_while(make_stand: MakeStand, postgres: Postgres) -> None:
    stand = make_stand(WAN_RELAY_DATABASE=postgres.new_database(), WAN_RELAY_SILENT_S="5")
    stand.start_executor()
    stand.start_gateway()
    before = ended(stand, order(stand, "before").json()["id"])
    running = order(stand, "slow 12").json()["id"]
    running_on(stand, running)
    postgres.stop()
    try:
        started = time.monotonic()
        answer = order(stand, "meanwhile")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "QUEUE_UNAVAILABLE")
        assert answer.json()["error"]["message"] == SENTENCE
        assert time.monotonic() - started < 30  # 10 on a machine that has nothing else to do
        assert video(stand, before["id"])["status"] == "succeeded"
        with stand.client() as client:
            listed = client.get("/api/v1/videos")
            assert (listed.status_code, listed.json()["error"]["message"]) == (503, SENTENCE)
            assert client.get("/healthz").status_code == 200
            wait_until(lambda: client.get("/readyz").json()["faults"] == ["the database does not answer"])
    finally:
        postgres.start()
    assert ended(stand, running)["status"] == "succeeded"
    assert ended(stand, order(stand, "after").json()["id"])["status"] == "succeeded"
    with stand.client() as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        wait_until(
            lambda: (
                {v["prompt"] for v in client.get("/api/v1/videos").json()["videos"]} == {"before", "slow 12", "after"}
            )
        )
    assert stand.journal("lost") == []


def test_sqlite_that_another_program_holds(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.start_gateway()
    known = order(stand, "before").json()["id"]
    with sqlite3.connect(stand.folder / "tasks.sqlite", isolation_level=None) as other:
        other.execute("begin exclusive")
        answer = order(stand, "meanwhile")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "QUEUE_UNAVAILABLE")
        assert video(stand, known)["status"] == "queued"
        other.execute("rollback")
    stand.start_executor()
    assert ended(stand, known)["status"] == "succeeded"
    with stand.client() as client:
        wait_until(lambda: [v["prompt"] for v in client.get("/api/v1/videos").json()["videos"]] == ["before"])


def test_a_start_without_a_database_is_one_sentence(make_stand: MakeStand) -> None:
    stand = make_stand(WAN_RELAY_DATABASE="postgresql://nobody:secret-word@127.0.0.1:1/none")
    done = stand.run("service.gateway", "--port", "0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("WAN_RELAY_DATABASE: the database does not answer: ")
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stderr


@pytest.fixture
def two_gateways(make_stand: MakeStand, postgres: Postgres) -> tuple[Stand, list[str]]:
    """The second one's death is no loss."""
    stand = make_stand(WAN_RELAY_DATABASE=postgres.new_database(), WAN_RELAY_SILENT_S="5")
    stand.start_executor()
    urls = [stand.start_gateway(PAUSES_S="3").url]
    urls.append(stand.start_gateway(PAUSES_S="3").url)
    return stand, urls


def test_two_gateways_on_one_database(two_gateways: tuple[Stand, list[str]], receiver: Receiver) -> None:
    stand, urls = two_gateways
    ids = []
    for number in range(6):
        stand.url = urls[number % 2]
        ids.append(order(stand, f"task {number} slow 0.4", webhook_url=receiver.url).json()["id"])
    for number, video_id in enumerate(ids):
        stand.url = urls[1 - number % 2]
        made = ended(stand, video_id)
        assert made["status"] == "succeeded"
        assert httpx.get(made["video"]["url"]).status_code == 200
    wait_until(lambda: len(receiver.told) == 6)
    time.sleep(1)
    assert receiver.told == dict.fromkeys(ids, 1)


def test_a_dead_gateways_webhooks_are_told_by_the_other(
    two_gateways: tuple[Stand, list[str]], receiver: Receiver
) -> None:
    stand, urls = two_gateways
    receiver.is_down = True
    ids = [order(stand, f"task {number}", webhook_url=receiver.url).json()["id"] for number in range(4)]
    wait_until(lambda: receiver.num_refused >= 4)
    stand.kill_gateway()
    receiver.is_down = False
    wait_until(lambda: len(receiver.told) == 4, limit_s=90)
    assert receiver.told == dict.fromkeys(ids, 1)
    stand.url = urls[0]
    assert ended(stand, ids[0])["status"] == "succeeded"
