"""The one interface to where uploads and results lie: objects with a key, whole or not there."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import NamedTuple, Protocol

MAX_KEY = 300
MAX_SEGMENT = 200  # a file system's names end at 255 bytes, and an unfinished file has a longer one
_SEGMENT = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_SEGMENT}}}")

Content = bytes | Path | AsyncIterator[bytes]


class StoreError(Exception):
    """A sentence that is safe to show: no path, no address."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


class InvalidKeyError(StoreError):
    """The key is not one that a store takes."""


class ObjectNotFoundError(StoreError):
    """There is no such object, or no longer."""


class StoreFullError(StoreError):
    """No room is left. What was being written is not there."""


class StoreUnavailableError(StoreError):
    """The store does not answer, or lets nobody in. A later try may work."""


class StoredObject(NamedTuple):
    """What is known of an object. `size` in bytes, `modified_s` in epoch seconds, `etag` with its quotes."""

    key: str
    size: int
    content_type: str
    modified_s: float
    etag: str


class ObjectStore(Protocol):
    """A key is `results/<task id>/<name>.mp4`: segments of `A-Z a-z 0-9 . _ -`, at most 300 characters.

    Every method raises a StoreError, InvalidKeyError first.
    """

    async def put(self, key: str, content: Content, content_type: str) -> StoredObject:
        """Writes the object whole or not at all, over one of the same key. What `content` raises by itself (a Path that
        is not there: OSError) comes through, and leaves nothing. What the object is served as, its suffix says
        (content_types.py); an S3 bucket keeps `content_type` too.
        """

    async def stat(self, key: str) -> StoredObject:
        """Raises ObjectNotFoundError."""

    async def get(self, key: str) -> bytes:
        """Raises ObjectNotFoundError."""

    def read(
        self, key: str, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to, not with, `end`, as many as there are, in pieces. What was begun is read whole,
        though it be deleted meanwhile.

        Raises ObjectNotFoundError before the first piece, also where the object has no longer this `etag`.
        """

    async def delete(self, key: str) -> None:
        """No error where there is nothing to delete."""

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """The objects under whole segments (`results/ab` holds `results/ab/c`, not `results/abc`), in no order."""

    async def check(self) -> None:
        """Writes, reads and deletes a small object of its own."""

    async def remove_leftovers(self, older_than_s: float) -> None:
        """What killed writers left behind and nobody wrote to for so long."""


def is_key(key: str) -> bool:
    segments = key.split("/")
    return len(key) <= MAX_KEY and all(_SEGMENT.fullmatch(name) and name not in (".", "..") for name in segments)


def check_key(key: str) -> str:
    """The key itself. Raises InvalidKeyError."""
    if not is_key(key):
        raise InvalidKeyError(
            f"a key must be at most {MAX_KEY} characters: names of A-Z, a-z, 0-9, '.', '_' and '-', joined by '/', "
            "none of them '.' or '..'"
        )
    return key
