"""Repeated submits: a client whose connection broke after its POST was taken sends it again (providers.md 9.1).

The same caller with the same body is the same wish only where the first one's connection broke before its answer was
through, or where the request says itself that it is a retry; two equal videos may be wanted too, also at once.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_S = 30.0
KEY_WINDOW_S = 24 * 3600.0
MAX_KNOWN = 10_000


class Delivery:
    """Whether the answer to one submit reached its client, as far as the connection tells."""

    def __init__(self, is_gone: Callable[[], bool] = lambda: False) -> None:
        """`is_gone` asks the connection now."""
        self._is_gone = is_gone
        self._was_lost: bool | None = None

    def answered(self) -> None:
        """The last byte of the answer was just handed over."""
        self._was_lost = self._is_gone()

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
    delivery: Delivery = field(default_factory=Delivery)


class Duplicates:
    """The submits of the last while, in memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[str, float, Delivery]] = OrderedDict()

    def task_of(self, owner: str, submit: Submit) -> str | None:
        """The task that this submit repeats, if it does."""
        if submit.idempotency_key:
            found = self._known.get((owner, "key " + submit.idempotency_key))
            return found[0] if found and self._clock() - found[1] < KEY_WINDOW_S else None
        found = self._known.get((owner, submit.digest))
        if found is None:
            return None
        task_id, since_s, delivery = found
        if self._clock() - since_s >= WINDOW_S and not delivery.is_open:
            return None
        return task_id if submit.is_retry or delivery.is_lost else None

    def remember(self, owner: str, submit: Submit, task_id: str) -> None:
        name = _name(owner, submit)
        self._known[name] = (task_id, self._clock(), submit.delivery)
        self._known.move_to_end(name)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def forget(self, owner: str, submit: Submit) -> None:
        """A submit that came to nothing."""
        self._known.pop(_name(owner, submit), None)


def _name(owner: str, submit: Submit) -> tuple[str, str]:
    return owner, "key " + submit.idempotency_key if submit.idempotency_key else submit.digest
