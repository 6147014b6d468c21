"""Figures of the gateway for Prometheus: `/metrics`.

Of tasks, every gateway on one database shows all: take the maximum over gateways, not the sum. Of HTTP, each its own.
"""

import time
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..tasks.task import Task

STATES = ("throttled", "queued", "running")
TASK_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200)
HTTP_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counts what happens; what is, it asks for when it is read."""

    def __init__(
        self, live: Callable[[], Iterable[Task]], executor_ages_s: Callable[[], dict[str, float]], silent_s: float
    ) -> None:
        """`executor_ages_s` tells of each executor how long its heartbeat has stood still."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "wan_relay_http_requests", "Requests", ("dialect", "status_class"), registry=self._registry
        )
        self._request_s = Histogram(
            "wan_relay_http_request_seconds",
            "Seconds to the last byte of an answer, those of long polls and event streams too",
            ("dialect",),
            buckets=HTTP_BUCKETS_S,
            registry=self._registry,
        )
        self._ended = Counter(
            "wan_relay_tasks_ended", "Tasks that ended", ("dialect", "state", "code"), registry=self._registry
        )
        self._stage_s = Histogram(
            "wan_relay_task_seconds",
            "Seconds of tasks that ended: waiting, rendering, and both",
            ("stage",),
            buckets=TASK_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_Now(live, executor_ages_s, silent_s))
        ProcessCollector(registry=self._registry)

    def request(self, dialect: str, status: int, seconds: float) -> None:
        self._requests.labels(dialect, f"{status // 100}xx").inc()
        self._request_s.labels(dialect).observe(seconds)

    def ended(self, task: Task) -> None:
        code = task.outcome.failure.code if task.outcome.failure else ""
        self._ended.labels(task.order.dialect, task.state, code).inc()
        for stage, seconds in stages_s(task).items():
            self._stage_s.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


def stages_s(task: Task, now_s: float | None = None) -> dict[str, float]:
    """Seconds of a task that ended: `waiting`, `rendering` and `total`; those that it has. Never below zero, since
    clocks differ and step.
    """
    end_s = task.finished_at_s or now_s or time.time()
    stages = {"total": end_s - task.created_at_s}
    if task.started_at_s is not None:
        stages |= {"waiting": task.started_at_s - task.created_at_s, "rendering": end_s - task.started_at_s}
    else:
        stages |= {"waiting": stages["total"]}
    return {name: max(0.0, seconds) for name, seconds in stages.items()}


class _Now(Collector):
    """What stands in memory at this moment."""

    def __init__(
        self, live: Callable[[], Iterable[Task]], executor_ages_s: Callable[[], dict[str, float]], silent_s: float
    ) -> None:
        self._live = live
        self._executor_ages_s = executor_ages_s
        self._silent_s = silent_s

    def collect(self) -> Iterator[Metric]:
        number: Count[str] = Count(task.state for task in self._live())
        tasks = GaugeMetricFamily("wan_relay_tasks", "Tasks that have not ended", labels=["state"])
        for state in STATES:
            tasks.add_metric([state], number[state])
        yield tasks
        ages_s = self._executor_ages_s()
        alive = sum(age_s < self._silent_s for age_s in ages_s.values())
        yield GaugeMetricFamily("wan_relay_executors_alive", "Executors whose heart beats", alive)
        beats = GaugeMetricFamily(
            "wan_relay_executor_heartbeat_age_seconds",
            "Seconds since an executor's heartbeat was last seen to move",
            labels=["executor"],
        )
        for executor_id, age_s in ages_s.items():
            beats.add_metric([executor_id], age_s)
        yield beats
