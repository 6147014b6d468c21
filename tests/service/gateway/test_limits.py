"""What a key may have at a time and in a minute."""

import itertools
from typing import Any

import pytest
from wan_relay.service.gateway.keys import Caller, KeyLimits
from wan_relay.service.gateway.limits import Limits, to_release
from wan_relay.service.gateway.refusal import Refusal
from wan_relay.service.tasks.task import Order, Task

numbers = itertools.count()


def task(state: Any, owner: str = "a", at_s: float = 0) -> Task:
    order = Order(dialect="api", owner=owner, request={}, retention_s=1)
    return Task(id=f"t{next(numbers)}", state=state, order=order, created_at_s=at_s)


def caller(**limits: int) -> Caller:
    return Caller("a", "a", KeyLimits(**limits))


def test_a_key_without_limits_has_none() -> None:
    limits = Limits()
    assert not any(limits.admit(caller(), [task("running")] * 1000) for _ in range(1000))


@pytest.mark.parametrize(
    ("states", "is_held"),
    [([], False), (["running"], False), (["running", "queued"], True), (["running", "throttled"], False)],
)
def test_what_is_over_the_running_limit_is_held(states: list[str], is_held: bool) -> None:
    assert Limits().admit(caller(running=2), [task(state) for state in states]) is is_held


def test_a_full_queue_refuses() -> None:
    live = [task("queued"), task("throttled"), task("running")]
    assert not Limits().admit(caller(queued=3), live)
    with pytest.raises(Refusal, match="QUEUE_FULL: this key has 2 tasks waiting, and may have 2") as caught:
        Limits().admit(caller(queued=2), live)
    assert caught.value.retry_after_s == 10


def test_a_minute_slides() -> None:
    now = [0.0]
    limits = Limits(lambda: now[0])
    for now[0] in (0, 10, 20):
        limits.admit(caller(per_minute=3), [])
    now[0] = 30.5
    with pytest.raises(Refusal, match="may start 3 tasks a minute; the next may come in 30 s") as caught:
        limits.admit(caller(per_minute=3), [])
    assert caught.value.retry_after_s == 30
    now[0] = 60
    limits.admit(caller(per_minute=3), [])
    with pytest.raises(Refusal):
        limits.admit(caller(per_minute=3), [])


def test_a_refused_task_counts_for_nothing() -> None:
    limits = Limits(lambda: 0.0)
    for _ in range(5):
        with pytest.raises(Refusal, match="QUEUE_FULL"):
            limits.admit(caller(per_minute=1, queued=0), [])
    limits.admit(caller(per_minute=1), [])


def test_held_tasks_go_oldest_first_as_far_as_there_is_room() -> None:
    live = [
        task("running", "a", 1),
        late := task("throttled", "a", 5),
        early := task("throttled", "a", 4),
        task("queued", "b", 2),
        task("throttled", "b", 3),
        free := task("throttled", "c", 9),
    ]
    assert to_release(live, {"a": 2, "b": 1, "c": None}.__getitem__) == [early, free]
    assert to_release(live[1:], {"a": 2, "b": 1, "c": None}.__getitem__) == [early, late, free]
