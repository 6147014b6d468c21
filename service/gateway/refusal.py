"""What the gateway itself refuses, before there is a task."""

from ..contract.errors import JobError


class Refusal(JobError):
    """One of the gateway's codes, and when to come again."""

    def __init__(self, code: str, sentence: str, field: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(code, sentence, field)
        self.retry_after_s = retry_after_s


def no_such_task(task_id: str) -> Refusal:
    return Refusal("NOT_FOUND", f"there is no task {task_id[:80]!r} for this key")
