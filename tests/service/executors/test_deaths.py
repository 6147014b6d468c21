"""Executors and ComfyUI that are killed at every point of a task: one outcome, one video, nothing left."""

import contextlib
import os
import signal
import sqlite3
import time

import httpx
import pytest
from wan_relay.service.executors.executor import MAX_TRIES
from wan_relay.service.tasks.task import LOST_TOO_OFTEN, Task
from wan_relay.tests.service.executors.conftest import Site
from wan_relay.tests.service.executors.deployment import Machine
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

# point of a task -> where its fake ComfyUI then stands
POINTS = {"pictures read": "POST /upload/image", "sampling": "sampling", "saving": "saving"}


def check_one_outcome(site: Site, task: Task, before: list[str]) -> None:
    assert task.state == "succeeded", (task.outcome.failure, site.machine.said()[-3000:])
    assert task.outcome.video is not None
    assert set(site.here.results()) - set(before) == {task.outcome.video.key}
    assert site.here.play(site.here.store.get(task.outcome.video.key)) == site.here.video.read_bytes()


def jobs_at(machine: Machine) -> dict[str, int]:
    """How many jobs an endpoint has, by their states."""
    url, key = machine.variables["WAN_RELAY_RUNPOD_URL"], machine.variables["WAN_RELAY_RUNPOD_KEY"]
    jobs: dict[str, int] = httpx.get(f"{url}/health", headers={"Authorization": f"Bearer {key}"}).json()["jobs"]
    return jobs


@pytest.mark.parametrize("point", ["queued", *POINTS, "after the outcome"])
def test_executor_is_killed(site: Site, point: str) -> None:
    before, prompts = site.here.results(), site.machine.prompts()
    executor = site.machine.executor
    assert executor is not None
    if point in POINTS:
        site.machine.configure(faults={POINTS[point]: ["stop", 1]})
        task_id = site.here.submit()
        site.machine.wait_met("stop")
        executor.kill()
        site.machine.release()
    elif point == "queued":
        executor.kill()
        task_id = site.here.submit()
    else:
        task_id = site.here.submit()
        site.here.wait(task_id)
        executor.kill()
    site.machine.start().ready()
    check_one_outcome(site, site.here.wait(task_id), before)
    if point == "after the outcome":
        time.sleep(1.0)  # nothing takes it up again
        check_one_outcome(site, site.here.wait(task_id), before)
    if site.here.kind == "runpod":
        assert site.machine.prompts() == prompts + 1, "the job that RunPod had was asked for, and no second one sent"


@pytest.mark.parametrize("point", ["queued", *POINTS, "after the outcome"])
def test_comfyui_is_killed(site: Site, point: str) -> None:
    before = site.here.results()
    if point in POINTS:
        site.machine.configure(faults={POINTS[point]: ["kill", 1]})
        task_id = site.here.submit()
    elif point == "queued":
        os.kill(site.machine.comfyui(), signal.SIGKILL)
        task_id = site.here.submit()
    else:
        task_id = site.here.submit()
        site.here.wait(task_id)
        os.kill(site.machine.comfyui(), signal.SIGKILL)
    check_one_outcome(site, site.here.wait(task_id), before)
    if point == "after the outcome":
        assert site.here.wait(site.here.submit()).state == "succeeded"


def test_executor_that_is_told_to_stop_gives_its_task_back(site: Site) -> None:
    before = site.here.results()
    executor = site.machine.executor
    assert executor is not None
    site.machine.configure(faults={"sampling": ["hang", 1]} if site.here.kind == "local" else {}, step_s=0.5)
    task_id = site.here.submit()
    wait_until(lambda: any("waiting" in line.text or "queued" in line.text for line in site.here.task(task_id).log))
    if site.here.kind == "local":
        site.machine.wait_met("hang")
    assert executor.stop() == 0, executor.said()
    assert site.here.task(task_id).state == "queued"
    if site.here.kind == "local":
        assert site.machine.left_files() == []
        site.here.wait_no_process()
    site.machine.configure()
    site.machine.start().ready()
    check_one_outcome(site, site.here.wait(task_id), before)


def test_executor_that_dies_for_good(site: Site) -> None:
    """Another does its tasks once it is known to be lost."""
    before = site.here.results()
    lost = site.here.machine()
    assert site.machine.executor is not None
    site.machine.executor.stop()
    if site.here.kind == "runpod":
        lost.platform = site.machine.platform
        lost.run_folder = site.machine.run_folder
    lost.configure(faults={"sampling": ["stop", 1]})
    lost.start().ready()
    task_id = site.here.submit()
    lost.wait_met("stop")
    assert lost.executor is not None
    lost.executor.kill()
    lost.release()
    site.machine.start().ready()
    assert site.here.task(task_id).executor == lost.name
    assert site.here.play(site.here.engine.recover([lost.name])) == 1
    task = site.here.wait(task_id)
    check_one_outcome(site, task, before)
    assert task.executor == site.machine.name


def test_executor_that_was_only_thought_to_be_lost(site: Site) -> None:
    """It stops when it finds its task with another; whose video it is, the task's outcome says."""
    if site.here.kind == "runpod":
        pytest.skip("there both ask for the same job")
    before = site.here.results()
    site.machine.configure(faults={"sampling": ["hang", 1]})
    task_id = site.here.submit()
    site.machine.wait_met("hang")
    other = site.here.machine().start().ready()
    assert site.here.play(site.here.engine.recover([site.machine.name])) == 1
    task = site.here.wait(task_id)
    check_one_outcome(site, task, before)
    assert task.executor in (site.machine.name, other.name)
    site.machine.configure()
    assert site.here.wait(site.here.submit()).state == "succeeded"
    other.end()
    assert other.left_files() == []


def test_task_that_takes_every_machine_with_it(site: Site) -> None:
    if site.here.kind == "runpod":
        pytest.skip("the queue is the same")
    before = site.here.results()
    site.machine.configure(faults={"sampling": ["hang", 1]})
    task_id = site.here.submit()
    for _ in range(MAX_TRIES):
        site.machine.wait_met("hang")
        site.machine.configure(faults={"sampling": ["hang", 1]})
        assert site.here.play(site.here.engine.recover([site.machine.name])) == 1
    task = site.here.wait(task_id)
    assert (task.state, task.outcome.failure) == ("failed", LOST_TOO_OFTEN)
    site.machine.configure()
    assert site.here.wait(site.here.submit()).state == "succeeded", "the machine is free"
    assert len(site.here.results()) == len(before) + 1


def test_job_of_a_task_that_is_given_up_is_cancelled_at_runpod(site: Site) -> None:
    if site.here.kind == "local":
        pytest.skip("what runs here dies with its executor")
    site.machine.configure(faults={"sampling": ["hang", 1]})
    task_id = site.here.submit()
    site.machine.wait_met("hang")
    for _ in range(MAX_TRIES):
        site.here.wait_running(task_id)
        assert site.machine.executor is not None
        site.machine.executor.kill()
        site.machine.start().ready()
    task = site.here.wait(task_id)
    assert (task.state, task.outcome.failure) == ("failed", LOST_TOO_OFTEN)
    wait_until(lambda: jobs_at(site.machine)["inProgress"] == 0, limit_s=20)
    wait_until(lambda: site.machine.left_files() == [], limit_s=20)


def test_store_that_is_away_when_the_video_is_there(site: Site) -> None:
    before = site.here.results()
    site.machine.configure(faults={"sampling": ["stop", 1]})
    task_id = site.here.submit()
    site.machine.wait_met("stop")
    elsewhere = site.here.objects.with_name("elsewhere")
    site.here.objects.rename(elsewhere)
    site.machine.release()
    wait_until(lambda: "saving the video" in [line.text for line in site.here.task(task_id).log])
    time.sleep(1.0)  # it is asked for in vain
    assert not site.here.objects.exists()
    elsewhere.rename(site.here.objects)
    check_one_outcome(site, site.here.wait(task_id), before)


def test_cancelled_while_its_outcome_is_on_the_way(site: Site) -> None:
    """The database holds still from before the video is there until after the task is cancelled."""
    before = site.here.results()
    site.machine.configure(faults={"sampling": ["stop", 1]})
    task_id = site.here.submit()
    site.machine.wait_met("stop")
    with contextlib.closing(sqlite3.connect(site.here.database, timeout=30, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        site.machine.release()
        wait_until(lambda: site.here.results() != before)
        time.sleep(0.5)  # the outcome waits
        cancel = "UPDATE workflow_status SET status = 'CANCELLED', owner_xid = NULL WHERE workflow_uuid = ?"
        assert database.execute(cancel, [task_id]).rowcount == 1
        database.execute("COMMIT")
    wait_until(lambda: site.here.results() == before)
    assert site.here.task(task_id).state == "cancelled"
