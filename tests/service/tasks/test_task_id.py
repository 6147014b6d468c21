"""Task ids sort by time, and are UUIDs that any library knows."""

import time
import uuid

from wan_relay.service.tasks.task_id import new_task_id


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_task_id() for _ in range(2000)]
    assert ids == sorted(set(ids))


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid.UUID(new_task_id())
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert before <= value.int >> 80 <= before + 60_000
