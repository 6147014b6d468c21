"""What the figures say of given tasks."""

from typing import Any

from wan_relay.service.contract.failure import Failure
from wan_relay.service.gateway.metrics import Metrics, stages_s
from wan_relay.service.tasks.task import Order, Outcome, Task

ORDER = Order(dialect="api", owner="a", request={}, retention_s=1)


def task(state: Any, **fields: Any) -> Task:
    return Task(id="t", state=state, order=ORDER, created_at_s=100.0, **fields)


def figures(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_stages_of_a_task() -> None:
    assert stages_s(task("succeeded", started_at_s=103.0, finished_at_s=110.0)) == {
        "waiting": 3.0,
        "rendering": 7.0,
        "total": 10.0,
    }
    assert stages_s(task("cancelled", finished_at_s=104.0)) == {"waiting": 4.0, "total": 4.0}
    assert stages_s(task("succeeded", started_at_s=90.0, finished_at_s=95.0)) == {
        "waiting": 0.0,
        "rendering": 5.0,
        "total": 0.0,
    }


def test_what_is_and_what_was() -> None:
    live = [task("queued"), task("queued"), task("running"), task("throttled")]
    metrics = Metrics(lambda: live, lambda: {"a": 1.0, "b": 30.0}, 12.0)
    metrics.request("api", 202, 0.02)
    metrics.request("api", 404, 0.02)
    metrics.ended(task("succeeded", started_at_s=103.0, finished_at_s=110.0))
    failure = Outcome(failure=Failure(code="TIMEOUT", sentence="late"))
    metrics.ended(task("failed", finished_at_s=110.0, outcome=failure))
    found = figures(metrics)
    wanted = {
        'wan_relay_tasks{state="queued"}': 2,
        'wan_relay_tasks{state="running"}': 1,
        'wan_relay_tasks{state="throttled"}': 1,
        "wan_relay_executors_alive": 1,
        'wan_relay_executor_heartbeat_age_seconds{executor="b"}': 30,
        'wan_relay_http_requests_total{dialect="api",status_class="2xx"}': 1,
        'wan_relay_http_requests_total{dialect="api",status_class="4xx"}': 1,
        'wan_relay_tasks_ended_total{code="",dialect="api",state="succeeded"}': 1,
        'wan_relay_tasks_ended_total{code="TIMEOUT",dialect="api",state="failed"}': 1,
        'wan_relay_task_seconds_sum{stage="rendering"}': 7,
        'wan_relay_task_seconds_sum{stage="waiting"}': 13,
        'wan_relay_task_seconds_count{stage="total"}': 2,
    }
    assert {name: found.get(name) for name in wanted} == wanted
