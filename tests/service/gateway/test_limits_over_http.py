"""A key's limits, deadlines, retention and clocks, over HTTP."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from wan_relay.tests.service.gateway.calls import ended, files, order, running_on, video
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # many processes are started, on a machine that may be busy

MakeStand = Callable[..., Stand]


def new_key(stand: Stand, name: str, *limits: str) -> str:
    return stand.run("service.gateway", "keys", "add", name, *limits).stdout.strip()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stand, dict[str, str]]]:
    stand = Stand(tmp_path_factory.mktemp("limited"))
    stand.start_gateway("--api-key", "the-operators-own-key")
    keys = {
        "one at a time": new_key(stand, "one", "--running", "1"),
        "two wait": new_key(stand, "two", "--queued", "2"),
        "three a minute": new_key(stand, "three", "--per-minute", "3"),
    }
    stand.start_executor("first")
    stand.start_executor("second")
    wait_until(lambda: order(stand, "first", keys["one at a time"]).status_code == 202)  # keys are read every 2 s
    yield stand, keys
    stand.close()


def test_a_key_has_one_task_at_a_time(limited: tuple[Stand, dict[str, str]]) -> None:
    stand, keys = limited
    key = keys["one at a time"]
    ids = [order(stand, f"own {number} slow 0.8", key).json()["id"] for number in range(4)]
    times = [ended(stand, video_id, key) for video_id in ids]
    assert [made["status"] for made in times] == ["succeeded"] * 4
    spans = sorted((made["started_at"], made["finished_at"]) for made in times)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_key_has_two_tasks_waiting(limited: tuple[Stand, dict[str, str]]) -> None:
    stand, keys = limited
    key = keys["two wait"]
    answers = [order(stand, "hang", key) for _ in range(2)]
    for answer in answers:
        wait_until(lambda answer=answer: video(stand, answer.json()["id"], key)["status"] == "running")
    answers += [order(stand, "hang", key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 202, 429]
    assert answers[-1].json()["error"]["code"] == "QUEUE_FULL"
    assert answers[-1].headers["retry-after"] == "10"
    with stand.client(key, "/api/v1") as client:
        for answer in answers[:-1]:
            assert client.delete(f"/videos/{answer.json()['id']}").status_code == 204


def test_a_key_has_three_tasks_a_minute(limited: tuple[Stand, dict[str, str]]) -> None:
    stand, keys = limited
    answers = [order(stand, f"task {number}", keys["three a minute"]) for number in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert answers[-1].json()["error"]["code"] == "RATE_LIMITED"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_another_keys_task_is_not_there(limited: tuple[Stand, dict[str, str]]) -> None:
    stand, keys = limited
    video_id = order(stand, "mine", keys["one at a time"]).json()["id"]
    assert video(stand, video_id, keys["two wait"])["error"]["code"] == "NOT_FOUND"
    assert video(stand, video_id, "no key")["error"]["code"] == "UNAUTHORIZED"


def test_metrics_ask_for_a_key(limited: tuple[Stand, dict[str, str]]) -> None:
    stand, keys = limited
    assert httpx.get(f"{stand.url}/metrics").status_code == 401
    with stand.client(keys["two wait"]) as client:
        text = client.get("/metrics").text
    assert "wan_relay_executors_alive 2.0" in text
    assert 'wan_relay_http_requests_total{dialect="api",status_class="4xx"}' in text


def test_no_line_of_the_journal_holds_what_is_secret(limited: tuple[Stand, dict[str, str]]) -> None:
    stand, keys = limited
    order(stand, "a very private prompt", keys["one at a time"])
    order(stand, "a very private prompt", "a-wrong-and-private-key")
    lines = wait_until(
        lambda: [line for line in stand.journal("request") if line["status"] == 401 and "dialect" in line]
    )
    assert lines[-1].keys() >= {"time", "level", "event", "request_id", "dialect", "status", "seconds"}
    [first, *_] = stand.journal("task_ordered")
    assert first["key"] == "one"
    assert first["request_id"] in {line["request_id"] for line in stand.journal("request")}
    text = "".join(path.read_text() for path in stand.folder.glob("*.err"))
    for secret in ("private", PICTURE[-40:], "the-operators-own-key", *keys.values()):
        assert secret not in text


@pytest.fixture
def clocked(make_stand: MakeStand) -> tuple[Stand, Path]:
    """A gateway whose clock is a test's, and which cleans up all the time."""
    stand = make_stand()
    clock = stand.folder / "clock"
    clock.write_text("0")
    stand.start_executor()
    stand.start_gateway(CLOCK_FILE=str(clock), PAUSES_S="1")
    return stand, clock


def test_a_video_goes_when_its_time_is_over(clocked: tuple[Stand, Path]) -> None:
    stand, clock = clocked
    made = ended(stand, order(stand, "kept a day").json()["id"])
    assert httpx.get(made["video"]["url"]).status_code == 200
    assert len(files(stand, "inputs")) == 1
    clock.write_text(str(23 * 3600))
    time.sleep(3)
    assert httpx.get(made["video"]["url"]).status_code == 200
    assert len(files(stand, "inputs") + files(stand, "results")) == 2
    clock.write_text(str(25 * 3600))
    assert httpx.get(made["video"]["url"]).status_code == 403
    gone = video(stand, made["id"])
    assert (gone["status"], gone["video"]["url"]) == ("succeeded", None)
    wait_until(lambda: not files(stand, "inputs") + files(stand, "results"))
    clock.write_text(str(32 * 24 * 3600))
    wait_until(lambda: video(stand, made["id"]).get("error", {}) and "id" not in video(stand, made["id"]))
    assert stand.errors("gateway") == ""


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_clock_that_steps_ends_no_task(clocked: tuple[Stand, Path], step_s: float) -> None:
    stand, clock = clocked
    video_id = order(stand, "slow 3").json()["id"]
    running_on(stand, video_id)
    waiting = order(stand, "next").json()["id"]
    clock.write_text(str(step_s))
    for task_id in (video_id, waiting, order(stand, "after").json()["id"]):
        made = ended(stand, task_id)
        assert made["status"] == "succeeded"
        assert httpx.get(made["video"]["url"]).status_code == 200
    clock.write_text("0")
    assert ended(stand, order(stand, "at last").json()["id"])["status"] == "succeeded"
    time.sleep(1)
    assert stand.errors("gateway") == ""
