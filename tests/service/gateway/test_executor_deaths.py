"""Executors that die, sleep or are many: each task still has one answer."""

from collections.abc import Callable

import pytest
from wan_relay.service.executors.executor import MAX_TRIES
from wan_relay.tests.service.gateway.calls import ended, files, order, paused, running_on, video
from wan_relay.tests.service.gateway.stand import Stand
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # many processes are started, on a machine that may be busy

MakeStand = Callable[..., Stand]


def test_a_lost_executors_task_goes_to_another(make_stand: MakeStand) -> None:
    stand = make_stand(WAN_RELAY_SILENT_S="5")
    first = stand.start_executor("first")
    stand.start_gateway()
    video_id = order(stand, "hang on first").json()["id"]
    running_on(stand, video_id)
    stand.start_executor("second")
    first.kill()
    assert ended(stand, video_id)["status"] == "succeeded"
    [lost] = stand.journal("lost")
    assert (lost["executors"], lost["num_recovered"]) == ("first", 1)
    [end] = stand.journal("task_ended")
    assert (end["task_id"], end["state"], end["executor"]) == (video_id, "succeeded", "second")
    assert len(files(stand, "results")) == 1


def test_a_task_that_is_given_back_often_is_made_all_the_same(make_stand: MakeStand) -> None:
    """An executor that is told to stop, for an update say, has lost nothing."""
    stand = make_stand()
    stand.start_gateway()
    video_id = order(stand, "hang on first").json()["id"]
    for _ in range(MAX_TRIES + 1):
        first = stand.start_executor("first")
        running_on(stand, video_id)
        first.terminate()
        assert first.wait(40) == 0
        wait_until(lambda: video(stand, video_id)["status"] == "queued")
    stand.start_executor("second")
    assert ended(stand, video_id)["status"] == "succeeded"


def test_an_executor_that_slept_too_long_gives_its_task_up(make_stand: MakeStand) -> None:
    stand = make_stand(WAN_RELAY_SILENT_S="5")
    first = stand.start_executor("first")
    stand.start_gateway()
    video_id = order(stand, "hang on first").json()["id"]
    running_on(stand, video_id)
    with paused(first):
        stand.start_executor("second")
        wait_until(lambda: stand.journal("lost"))
    assert ended(stand, video_id)["status"] == "succeeded"
    next_id = order(stand, "next").json()["id"]
    assert ended(stand, next_id)["status"] == "succeeded"
    assert len(files(stand, "results")) == 2


def test_a_gateway_that_slept_takes_nobody_for_lost(make_stand: MakeStand) -> None:
    stand = make_stand(WAN_RELAY_SILENT_S="5")
    stand.start_executor()
    stand.start_gateway()
    video_id = order(stand, "slow 16").json()["id"]
    running_on(stand, video_id)
    with paused(stand.gateway), pytest.raises(AssertionError, match="it never came"):
        wait_until(lambda: False, limit_s=9)
    assert ended(stand, video_id)["status"] == "succeeded"
    assert stand.journal("lost") == []


def test_fifty_tasks_on_two_executors_every_third_bad(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.start_executor("first")
    stand.start_executor("second")
    stand.start_gateway()
    wanted = {}
    for number in range(50):
        is_bad = number % 3 == 0
        prompt = f"fail EXECUTION_FAILED {number}" if is_bad else f"task {number} slow 0.2"
        wanted[order(stand, prompt).json()["id"]] = "failed" if is_bad else "succeeded"
    assert {video_id: ended(stand, video_id)["status"] for video_id in wanted} == wanted
    ends = stand.journal("task_ended")
    assert sorted(end["task_id"] for end in ends) == sorted(wanted)
    assert {end["executor"] for end in ends} == {"first", "second"}
    assert len(files(stand, "results")) == list(wanted.values()).count("succeeded")
    assert video(stand, next(iter(wanted)))["error"]["code"] == "EXECUTION_FAILED"
    with stand.client() as client:
        text = client.get("/metrics").text
    assert 'wan_relay_tasks_ended_total{code="EXECUTION_FAILED",dialect="api",state="failed"} 17.0' in text
    assert 'wan_relay_tasks_ended_total{code="",dialect="api",state="succeeded"} 33.0' in text
