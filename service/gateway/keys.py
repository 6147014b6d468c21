"""The keys that clients show, hashed at rest, and what each may do.

A key is 32 random bytes, so one round of SHA-256 keeps it as well as a slow hash would: there is nothing to guess.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from ..tasks.database import make_tables

_METADATA = sa.MetaData()
KEYS = sa.Table(
    "wan_relay_keys",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("revoked_at_s", sa.Float, nullable=True),
)
PREFIX = "wr_"
SCHEMES = ("bearer", "key", "token")


class KeyLimits(BaseModel):
    """Of one key; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running: int | None = Field(default=None, ge=1, description="tasks that run, or are next in the queue, at a time")
    queued: int | None = Field(default=None, ge=0, description="tasks that wait")
    per_minute: int | None = Field(default=None, ge=1, description="new tasks in a minute")


class Caller(NamedTuple):
    """Whoever sent a request."""

    id: str
    name: str
    limits: KeyLimits


class KeyRecord(NamedTuple):
    """A key as `keys list` shows it: all but the key."""

    id: str
    name: str
    limits: KeyLimits
    created_at_s: float
    revoked_at_s: float | None


class KeyNameError(ValueError):
    """The name is taken, or is none."""


ANYBODY = Caller("local", "local", KeyLimits())


class Keys:
    """The table of keys. Callers are known by what `refresh` read last, so that no request waits for the database."""

    def __init__(self, engine: sa.Engine, fixed: Sequence[str] = ()) -> None:
        """`fixed` are keys of the settings, which are never stored."""
        self._engine = engine
        digests = {_digest(key) for key in fixed}
        self._fixed = [(digest, Caller(f"fixed-{digest[:16]}", "settings", KeyLimits())) for digest in digests]
        self._known: list[tuple[str, Caller]] = []
        self._limits: dict[str, KeyLimits] = {}
        self._had_any = False
        make_tables(engine, _METADATA)
        self.refresh()

    def add(self, name: str, limits: KeyLimits) -> str:
        """A new key, shown this once. Raises KeyNameError."""
        if not name.strip() or len(name) > 64 or not name.isprintable():
            raise KeyNameError("a key's name is 1 to 64 printable characters")
        key = PREFIX + secrets.token_urlsafe(32)
        row = {
            "id": f"key-{secrets.token_hex(6)}",
            "name": name,
            "digest": _digest(key),
            "limits": limits.model_dump(exclude_none=True),
            "created_at_s": time.time(),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(KEYS).values(row))
        except sa.exc.IntegrityError:
            raise KeyNameError(f"there is a key named {name!r} already") from None
        return key

    def revoke(self, name: str) -> bool:
        """Whether there was such a key that was not revoked."""
        with self._engine.begin() as connection:
            done = connection.execute(
                sa.update(KEYS)
                .where(KEYS.c.name == name, KEYS.c.revoked_at_s.is_(None))
                .values(revoked_at_s=time.time())
            )
        return done.rowcount > 0

    def list(self) -> list[KeyRecord]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(KEYS).order_by(KEYS.c.created_at_s)).all()
        return [
            KeyRecord(row.id, row.name, KeyLimits.model_validate(row.limits), row.created_at_s, row.revoked_at_s)
            for row in rows
        ]

    @property
    def is_open(self) -> bool:
        """Whether there never was a key, so that anybody who reaches the gateway may use it."""
        return not self._had_any and not self._fixed

    @property
    def count(self) -> int:
        return len(self._known) + len(self._fixed)

    def caller(self, authorization: str | None) -> Caller | None:
        """Who sends `Bearer KEY`, `Key KEY`, `Token KEY` or the bare key; None for nobody known."""
        if self.is_open:
            return ANYBODY
        digest = _digest(bare_key(authorization or ""))
        found = None
        for known, caller in (*self._fixed, *self._known):  # all of them, whichever it is
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def limits_of(self, caller_id: str) -> KeyLimits:
        """Of a key that may be revoked meanwhile: what waits of its tasks goes on within the limits that it had."""
        return self._limits.get(caller_id, KeyLimits())

    def name_of(self, caller_id: str) -> str:
        """The name of a key, for the log; its id where it is none any more."""
        everybody = (*self._fixed, *self._known, ("", ANYBODY))
        return next((caller.name for _, caller in everybody if caller.id == caller_id), caller_id)

    def refresh(self) -> None:
        """Reads the table; blocks."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(KEYS)).all()
        self._had_any = bool(rows)  # who revokes the last key opens no door
        self._limits = {row.id: KeyLimits.model_validate(row.limits) for row in rows}
        self._known = [
            (row.digest, Caller(row.id, row.name, self._limits[row.id])) for row in rows if row.revoked_at_s is None
        ]


def bare_key(authorization: str) -> str:
    """The key of an Authorization header, without its scheme."""
    scheme, _, rest = authorization.strip().partition(" ")
    return rest.strip() if scheme.lower() in SCHEMES and rest else authorization.strip()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
