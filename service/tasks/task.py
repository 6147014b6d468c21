"""A task: one video that somebody asked the gateway for, from the order to its end.

Every dialect shows the same task in its provider's words. The states are those of `providers.md` 1.1.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..contract.failure import Failure
from ..contract.progress import Progress
from ..contract.video_answer import VideoAnswer
from ..contract.video_request import VideoRequest

TaskState = Literal["throttled", "queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATES: frozenset[TaskState] = frozenset({"succeeded", "failed", "cancelled"})


class Webhook(BaseModel):
    """Where a task's owner wants to be told, and of what; which events there are is the dialect's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    events: tuple[str, ...] = ()


class Order(BaseModel):
    """What is queued for a task: small, plain JSON. Pictures lie in the object store, named here by their keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dialect: str = Field(description="name of the dialect that took it, and that shows it")
    owner: str = Field(description="id of the key that asked")
    request: dict[str, Any] = Field(description="`VideoRequest.to_wire` without the pictures that were stored")
    pictures: dict[str, str] = Field(
        default={}, description="field of VideoRequest (`image_base64`) -> key in the store"
    )
    model: str = Field(default="", description="the name that the client called the model by")
    warnings: tuple[str, ...] = Field(
        default=(), description="what the gateway changed or could not honour, a sentence each"
    )
    expanded_prompt: str | None = Field(default=None, description="the prompt that an expander made of the client's")
    ordered_at_s: float = Field(default=0.0, description="epoch seconds; SQLite's own time of a task has no fractions")
    webhook: Webhook | None = None
    base_url: str = Field(
        default="", description="scheme and host as the client called them, for links in what it is sent"
    )
    retention_s: float = Field(description="how long the video is kept after the task's end")
    deadline_s: float | None = Field(default=None, description="seconds that an executor may take for it")
    start_deadline_s: float | None = Field(default=None, description="seconds from the order until it must have begun")
    attempt: int = Field(default=0, description="how often it was queued again after its end")
    end_deadline_s: float | None = Field(default=None, description="seconds from the order until it must have ended")
    digest: str = Field(default="", description="of the client's body, to know a repeated submit by")
    extras: dict[str, Any] = Field(default={}, description="what the dialect wants to have when it shows the task")

    def video_request(self, **pictures: str) -> VideoRequest:
        """The request with its stored pictures put back, `field=base64 text or URL`."""
        return VideoRequest.model_validate({**self.request, **pictures})


LOST_TOO_OFTEN = Failure(
    code="INTERNAL_ERROR", sentence="every machine that took the task was lost; it is not given to another"
)


class LogLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at_s: float = Field(description="epoch seconds")
    text: str


class Video(BaseModel):
    """The file in the object store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    size: int = Field(description="bytes")


class Outcome(BaseModel):
    """How an executor ended a task: an answer and its video, or a failure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: VideoAnswer | None = None
    video: Video | None = None
    failure: Failure | None = None


class Task(BaseModel):
    """A task as it stands. Times are epoch seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    state: TaskState
    order: Order
    created_at_s: float
    started_at_s: float | None = None
    finished_at_s: float | None = None
    queue_position: int | None = Field(default=None, description="tasks that come before it, while it is queued")
    executor: str | None = Field(default=None, description="who has it, or had it last")
    progress: Progress | None = None
    log: tuple[LogLine, ...] = ()
    outcome: Outcome = Outcome()

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def expires_at_s(self) -> float | None:
        """When its video goes, if it has ended."""
        return None if self.finished_at_s is None else self.finished_at_s + self.order.retention_s

    def is_removed(self, now_s: float) -> bool:
        """Whether its video, once there, is kept no longer."""
        return self.expires_at_s is not None and now_s >= self.expires_at_s

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the gateway and the worker have to say about it."""
        return (*self.order.warnings, *(self.outcome.answer.warnings if self.outcome.answer else ()))
