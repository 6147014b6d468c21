"""A repeated POST is one task only where its first answer was lost, or where it says that it is a retry."""

from typing import Any

from wan_relay.service.gateway.duplicates import KEY_WINDOW_S, WINDOW_S, Delivery, Duplicates, Submit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def submit(is_delivered: bool = False, **fields: Any) -> Submit:
    return Submit(**{"digest": "d", **fields}, delivery=Delivery(is_delivered))


def test_an_answer_that_was_lost_is_given_again_for_a_while() -> None:
    clock = Clock()
    known = Duplicates(clock)
    assert known.task_of("key", submit()) is None
    known.remember("key", submit(is_delivered=False), "task")
    clock.now += WINDOW_S - 0.1
    assert known.task_of("key", submit()) == "task"
    assert known.task_of("other", submit()) is None
    assert known.task_of("key", submit(digest="e")) is None
    clock.now += 0.2
    assert known.task_of("key", submit()) is None


def test_two_equal_wishes_are_two_tasks() -> None:
    known = Duplicates(Clock())
    known.remember("key", submit(is_delivered=True), "task")
    assert known.task_of("key", submit()) is None


def test_a_retry_says_so_itself() -> None:
    known = Duplicates(Clock())
    known.remember("key", submit(is_delivered=True), "task")
    assert known.task_of("key", submit(is_retry=True)) == "task"


def test_delivery_is_looked_at_when_the_second_comes() -> None:
    known = Duplicates(Clock())
    first = submit()
    known.remember("key", first, "task")
    first.delivery.is_delivered = True
    assert known.task_of("key", submit()) is None


def test_an_idempotency_key_counts_alone_and_for_a_day() -> None:
    clock = Clock()
    known = Duplicates(clock)
    known.remember("key", submit(is_delivered=True, idempotency_key="a"), "task")
    assert known.task_of("key", submit(idempotency_key="a", digest="another body")) == "task"
    assert known.task_of("key", submit(idempotency_key="b")) is None
    assert known.task_of("key", submit(is_retry=True)) is None
    clock.now += KEY_WINDOW_S
    assert known.task_of("key", submit(idempotency_key="a")) is None
