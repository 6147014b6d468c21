"""What a folder and an S3 bucket have in common: obstore does the work, its errors become this package's."""

import atexit
import contextlib
import functools
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from .content_types import content_type_of
from .object_store import (
    Content,
    ObjectNotFoundError,
    StoredObject,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    check_key,
    is_key,
)

PIECE = 256 * 1024
PART = 5 * 1024 * 1024  # S3's least
PARTS_AT_ONCE = 4
# obstore tells its errors apart by their words alone; its version is pinned.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL = {27, 28, 122}  # EFBIG, ENOSPC, EDQUOT
_NAME_IS_TAKEN = {17, 20, 21}  # EEXIST, ENOTDIR, EISDIR
_FULL_S3 = re.compile(r"StorageFull|QuotaExceeded|InsufficientStorage|507 Insufficient")

_NOT_ALLOWED = {1, 13, 30}  # EPERM, EACCES, EROFS
_REFUSED_S3 = re.compile(r"status code: 40[13] ")
_CODE_S3 = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")

NOT_FOUND = "there is no such file, or no longer"
FULL = "the object store is full"
SILENT = "the object store does not answer"
REFUSED = "the object store does not let the gateway in"
NO_BUCKET = "the object store has no such bucket"

log = logging.getLogger(__name__)


class ObstoreBacked:
    """An ObjectStore (object_store.py says what each method does) over one of obstore's."""

    def __init__(self, backend: Any, *, keeps_attributes: bool) -> None:
        self._backend = backend
        self._keeps_attributes = keeps_attributes
        _end_after_obstore()

    async def put(self, key: str, content: Content, content_type: str) -> StoredObject:
        check_key(key)
        if isinstance(content, Path):
            content.stat()
        with self._own_errors(is_write=True):
            self._require()
            attributes = {"Content-Type": content_type} if self._keeps_attributes else None
            await obstore.put_async(
                self._backend, key, content, attributes=attributes, chunk_size=PART, max_concurrency=PARTS_AT_ONCE
            )
        return await self.stat(key)

    async def stat(self, key: str) -> StoredObject:
        check_key(key)
        with self._own_errors():
            return _stored(await obstore.head_async(self._backend, key))

    async def get(self, key: str) -> bytes:
        check_key(key)
        with self._own_errors():
            result = await obstore.get_async(self._backend, key)
            return bytes(await result.bytes_async())

    async def read(
        self, key: str, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        if end is not None and end <= start:
            return
        options: Any = {"if_match": etag} if etag else {}
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        check_key(key)
        with self._own_errors():
            try:
                result = await obstore.get_async(self._backend, key, options=options)
            except GenericError as error:
                if "InvalidRange" in str(error):
                    return  # nothing lies behind the end
                raise
            async for piece in result.stream(min_chunk_size=PIECE):
                yield piece

    async def delete(self, key: str) -> None:
        check_key(key)
        with contextlib.suppress(ObjectNotFoundError), self._own_errors():
            await obstore.delete_async(self._backend, key)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        prefix = prefix.rstrip("/")
        if prefix:
            check_key(prefix)
        with self._own_errors():
            self._require()
            async for batch in obstore.list(self._backend, prefix or None, chunk_size=1000):
                for meta in batch:
                    if is_key(meta["path"]):  # what others keep in the folder is theirs
                        yield _stored(meta)

    async def check(self) -> None:
        key, content = f"probes/{secrets.token_hex(8)}.txt", secrets.token_bytes(16)
        await self.put(key, content, "text/plain")
        try:
            if await self.get(key) != content:
                raise StoreUnavailableError("the object store gives back other bytes than it was given")
        finally:
            await self.delete(key)

    async def remove_leftovers(self, older_than_s: float) -> None:
        """Nothing to do where the backend keeps unfinished writes to itself."""

    def _require(self) -> None:
        """Raises StoreUnavailableError where the backend would not notice by itself that it is gone."""

    @contextmanager
    def _own_errors(self, is_write: bool = False) -> Iterator[None]:
        """Raises obstore's errors again as this package's. What a content raises by itself is not obstore's."""
        try:
            yield
        except FileNotFoundError as error:
            self._require()
            if is_write or "NoSuchBucket" in str(error):
                raise _unavailable(error, SILENT) from error
            raise ObjectNotFoundError(NOT_FOUND) from error
        except PreconditionError as error:
            raise ObjectNotFoundError("the file was replaced while it was being read") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise _unavailable(error, REFUSED) from error
        except BaseError as error:
            raise _own_error(error, is_write) from error


@functools.cache
def _end_after_obstore() -> None:
    """A thread of obstore lets go of Python's objects a moment after its last answer. A process that ends meanwhile is
    aborted: 38 of 60 that ended at once, none of 60 that waited.
    """
    atexit.register(time.sleep, 0.2)


def _own_error(error: BaseError, is_write: bool) -> StoreError:
    text = str(error)
    code = int(found[1]) if (found := _OS_ERROR.search(text)) else 0
    if code in _FULL or _FULL_S3.search(text):
        _warn(error)
        return StoreFullError(FULL)
    if code in _NAME_IS_TAKEN and is_write:
        return StoreError("a part of the key is already the name of a file, or the key that of a folder")
    if code in _NAME_IS_TAKEN:
        return ObjectNotFoundError(NOT_FOUND)
    is_refused = code in _NOT_ALLOWED or _REFUSED_S3.search(text)
    return _unavailable(error, REFUSED if is_refused else SILENT)


def _unavailable(error: Exception, sentence: str) -> StoreUnavailableError:
    _warn(error)
    return StoreUnavailableError(NO_BUCKET if "NoSuchBucket" in str(error) else sentence)


def _warn(error: Exception) -> None:
    """For the operator: obstore's own words without its debug dump, and S3's name for what is wrong."""
    named = _CODE_S3.search(str(error))
    log.warning("object store: %s %s", str(error).partition("\n")[0], named[1] if named else "")


def _stored(meta: Any) -> StoredObject:
    key = meta["path"]
    etag = meta["e_tag"] or f'"{meta["size"]:x}-{meta["last_modified"].timestamp():.6f}"'
    return StoredObject(key, meta["size"], content_type_of(key), meta["last_modified"].timestamp(), etag)
