"""Who is alive: each executor counts up in its row, and whoever sees a count stand still knows that it died.

A count and no time: clocks of several machines differ, and step. DBOS itself recovers a lost executor's tasks only when
that executor comes back (reference/engine.md), so the gateway asks it to when a count has stood still.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa

from .database import make_tables

BEAT_S = 2.0
SILENT_S = 12.0
MAX_LOOK_S = 3 * BEAT_S  # between two looks

_METADATA = sa.MetaData()
EXECUTORS = sa.Table(
    "wan_relay_executors",
    _METADATA,
    sa.Column("executor_id", sa.Text, primary_key=True),
    sa.Column("beats", sa.BigInteger, nullable=False),
    sa.Column("about", sa.JSON, nullable=False),
)


class Executor(NamedTuple):
    """One row: what an executor says about itself (kind, host, GPU, queue) and how often it has."""

    id: str
    beats: int
    about: dict[str, Any]


class Heartbeats:
    """The table, for those who beat and those who watch."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, _METADATA)

    def beat(self, executor_id: str, about: dict[str, Any]) -> None:
        """Counts up; makes the row where there is none."""
        with self._engine.begin() as connection:
            known = connection.execute(
                sa.update(EXECUTORS)
                .where(EXECUTORS.c.executor_id == executor_id)
                .values(beats=EXECUTORS.c.beats + 1, about=about)
            )
            if not known.rowcount:
                connection.execute(sa.insert(EXECUTORS).values(executor_id=executor_id, beats=1, about=about))

    def leave(self, executor_id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(EXECUTORS).where(EXECUTORS.c.executor_id == executor_id))

    def all(self) -> list[Executor]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(EXECUTORS).order_by(EXECUTORS.c.executor_id)).all()
        return [Executor(row.executor_id, row.beats, row.about) for row in rows]


class Watch:
    """Tells the silent from the living, by what it has seen itself. Time in which it did not look counts for nobody:
    then the database did not answer, or this process stood still.
    """

    def __init__(self, silent_s: float = SILENT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_s = silent_s
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_at = clock()

    def see(self, executors: list[Executor]) -> tuple[list[Executor], list[Executor]]:
        """Those that live and those whose count has stood still for `silent_s` seconds."""
        now = self._clock()
        has_slept = now - self._looked_at > MAX_LOOK_S
        before, self._seen, self._looked_at = {} if has_slept else self._seen, {}, now
        for executor in executors:
            beats, since = before.get(executor.id, (None, now))
            self._seen[executor.id] = (executor.beats, since if beats == executor.beats else now)
        silent = {id for id, (_, since) in self._seen.items() if now - since >= self._silent_s}
        return [e for e in executors if e.id not in silent], [e for e in executors if e.id in silent]

    def ages_s(self) -> dict[str, float]:
        """Of each executor, the seconds since its count was last seen to move."""
        now = self._clock()
        return {executor_id: now - since for executor_id, (_, since) in self._seen.items()}
