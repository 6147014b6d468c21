"""Repeated submits: a client whose connection broke after its POST was taken sends it again (providers.md 9.1).

The same caller with the same body is the same wish only where the first one's connection broke before its answer was
through, or where the request says itself that it is a retry; two equal videos may be wanted too, also at once.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_S = 30.0
RECALL_S = 150.0  # what a gateway may be away, and a submit of before that still be known
KEY_WINDOW_S = 24 * 3600.0
MAX_KNOWN = 10_000
KEY_MARK = "key "


class Delivery:
    """Whether the answer to one submit reached its client, as far as the connection tells."""

    def __init__(self, is_gone: Callable[[], bool] = lambda: False) -> None:
        """`is_gone` asks the connection now, while the answer is still to come."""
        self._is_gone = is_gone
        self._was_lost: bool | None = None

    def answered(self, is_lost: bool) -> None:
        """The last byte of the answer was just handed over, to nobody if `is_lost`."""
        self._was_lost = is_lost

    @property
    def is_open(self) -> bool:
        """Whether the answer is still to come: some wait for the video with it, for minutes."""
        return self._was_lost is None

    @property
    def is_lost(self) -> bool:
        return self._is_gone() if self._was_lost is None else self._was_lost


@dataclass(frozen=True)
class Submit:
    """What is known of one POST beside its body's meaning. `base_url` is scheme and host as the client used them."""

    base_url: str = ""
    digest: str = ""
    is_retry: bool = False
    idempotency_key: str = ""
    request_id: str = ""
    delivery: Delivery = field(default_factory=Delivery)

    @property
    def name(self) -> str:
        """What it is known by: its idempotency key, else its body."""
        return KEY_MARK + self.idempotency_key if self.idempotency_key else self.digest


class Duplicates:
    """The submits of the last while, in memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[str, float, Delivery]] = OrderedDict()

    def task_of(self, owner: str, submit: Submit) -> str | None:
        """The task that this submit repeats, if it does."""
        found = self._known.get((owner, submit.name))
        if submit.idempotency_key:
            return found[0] if found and self._clock() - found[1] < KEY_WINDOW_S else None
        if found is None:
            return None
        task_id, since_s, delivery = found
        if self._clock() - since_s >= WINDOW_S and not delivery.is_open:
            return None
        return task_id if submit.is_retry or delivery.is_lost else None

    def remember(self, owner: str, submit: Submit, task_id: str) -> None:
        self._keep((owner, submit.name), (task_id, self._clock(), submit.delivery))

    def recall(self, owner: str, name: str, task_id: str, age_s: float) -> None:
        """A submit of before this gateway's start, by its name: nobody knows whether its answer was delivered. While no
        gateway was there nobody could come again, so that the window begins now.
        """
        is_key = name.startswith(KEY_MARK)
        if name and age_s < (KEY_WINDOW_S if is_key else RECALL_S):
            known_at = self._clock() - (age_s if is_key else 0.0)
            lost = Delivery()
            lost.answered(is_lost=True)
            self._keep((owner, name), (task_id, known_at, lost))

    def _keep(self, place: tuple[str, str], known: tuple[str, float, Delivery]) -> None:
        self._known[place] = known
        self._known.move_to_end(place)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def forget(self, owner: str, submit: Submit) -> None:
        """A submit that came to nothing."""
        self._known.pop((owner, submit.name), None)
