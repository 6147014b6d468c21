"""What a dialect makes of a client's body, before the gateway makes an order of it."""

from dataclasses import dataclass, field, replace
from typing import Any

from ..contract.video_request import VideoRequest
from ..tasks.task import Webhook


@dataclass(frozen=True)
class Draft:
    """The request in the project's words, and what else the client asked for.

    `warnings` are sentences about values that cannot be honoured; `retention_s` is how long the provider keeps videos;
    `deadline_s` is what an executor may take, `start_deadline_s` how long a task may wait, `end_deadline_s` both
    together; a larger `priority` number waits longer; `extras` is what the dialect wants back when it shows the task.
    """

    request: VideoRequest
    model: str = ""
    warnings: tuple[str, ...] = ()
    is_expansion_wanted: bool = False
    webhook: Webhook | None = None
    retention_s: float = 24 * 3600.0
    deadline_s: float | None = None
    start_deadline_s: float | None = None
    end_deadline_s: float | None = None
    priority: int = 0
    extras: dict[str, Any] = field(default_factory=dict)

    def warned(self, *sentences: str) -> "Draft":
        return replace(self, warnings=(*self.warnings, *sentences))
