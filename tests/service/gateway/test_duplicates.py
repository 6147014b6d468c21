"""A repeated POST is one task only where its first connection broke, or where it says that it is a retry."""

from typing import Any

from wan_relay.service.gateway.duplicates import KEY_WINDOW_S, RECALL_S, WINDOW_S, Delivery, Duplicates, Submit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def submit(is_lost: bool = False, **fields: Any) -> Submit:
    delivery = Delivery()
    delivery.answered(is_lost)
    return Submit(**{"digest": "d", **fields}, delivery=delivery)


def test_an_answer_that_was_lost_is_given_again_for_a_while() -> None:
    clock = Clock()
    known = Duplicates(clock)
    assert known.task_of("key", submit()) is None
    known.remember("key", submit(is_lost=True), "task")
    clock.now += WINDOW_S - 0.1
    assert known.task_of("key", submit()) == "task"
    assert known.task_of("other", submit()) is None
    assert known.task_of("key", submit(digest="e")) is None
    clock.now += 0.2
    assert known.task_of("key", submit()) is None


def test_two_equal_wishes_are_two_tasks() -> None:
    known = Duplicates(Clock())
    known.remember("key", submit(), "task")
    assert known.task_of("key", submit()) is None


def test_a_retry_says_so_itself() -> None:
    known = Duplicates(Clock())
    known.remember("key", submit(), "task")
    assert known.task_of("key", submit(is_retry=True)) == "task"


def test_a_connection_counts_as_it_is_until_the_answer_is_through() -> None:
    gone: list[bool] = []
    known = Duplicates(Clock())
    first = Submit(digest="d", delivery=Delivery(lambda: bool(gone)))
    known.remember("key", first, "task")
    assert known.task_of("key", submit()) is None
    gone.append(True)
    assert known.task_of("key", submit()) == "task"
    gone.clear()
    first.delivery.answered(is_lost=False)
    gone.append(True)
    assert known.task_of("key", submit()) is None


def test_a_submit_that_came_to_nothing_is_no_first_one() -> None:
    known = Duplicates(Clock())
    known.remember("key", submit(is_lost=True), "task")
    known.forget("key", submit())
    assert known.task_of("key", submit()) is None


def test_an_idempotency_key_counts_alone_and_for_a_day() -> None:
    clock = Clock()
    known = Duplicates(clock)
    known.remember("key", submit(idempotency_key="a"), "task")
    assert known.task_of("key", submit(idempotency_key="a", digest="another body")) == "task"
    assert known.task_of("key", submit(idempotency_key="b")) is None
    assert known.task_of("key", submit(is_retry=True)) is None
    clock.now += KEY_WINDOW_S
    assert known.task_of("key", submit(idempotency_key="a")) is None


def test_a_call_that_was_held_for_minutes_can_be_repeated_while_it_is_at_work() -> None:
    clock = Clock()
    known = Duplicates(clock)
    first = Submit(digest="d", delivery=Delivery(lambda: True))
    known.remember("key", first, "task")
    clock.now += 10 * WINDOW_S
    assert known.task_of("key", submit()) == "task"
    first.delivery.answered(is_lost=False)
    assert known.task_of("key", submit()) is None


def test_submits_of_before_a_restart_are_known_for_a_window_from_it() -> None:
    clock = Clock()
    known = Duplicates(clock)
    known.recall("key", "d", "task", age_s=100.0)
    known.recall("key", "old", "task", age_s=RECALL_S)
    known.recall("key", "key a", "keyed", age_s=KEY_WINDOW_S - 10)
    known.recall("key", "", "nameless", age_s=0.0)
    assert known.task_of("key", submit()) == "task"
    assert known.task_of("other", submit()) is None
    assert known.task_of("key", submit(digest="old")) is None
    assert known.task_of("key", submit(digest="")) is None
    assert known.task_of("key", submit(idempotency_key="a")) == "keyed"
    clock.now += WINDOW_S
    assert known.task_of("key", submit()) is None
    assert known.task_of("key", submit(idempotency_key="a")) is None
