"""The object store that a setting names."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError

from .local_folder import LocalFolder
from .object_store import ObjectStore, StoreError, check_key
from .s3_bucket import S3Bucket

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
# What a setting of S3 must look like. A stray newline in one of them ends obstore in a panic.
_SETTINGS = {
    "endpoint": re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?"),
    "region": re.compile(r"[A-Za-z0-9-]+"),
    "key id": re.compile(r"[!-~]+"),
    "secret": re.compile(r"[!-~]+"),
}


def open_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
) -> ObjectStore:
    """From a folder's path, `file:///folder` or `s3://bucket/prefix`; the other arguments are S3's.

    Raises StoreError for anything else; whether a bucket is there, only its `check` tells.
    """
    if "://" not in url:
        return LocalFolder(Path(_named(url)).expanduser())
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return LocalFolder(Path(_named(unquote(parts.path))))
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc):
        prefix = parts.path.strip("/")
        _check_settings(endpoint_url, region, access_key_id, secret_access_key)
        try:
            return S3Bucket(
                parts.netloc,
                check_key(prefix) if prefix else "",
                endpoint_url=endpoint_url,
                region=region,
                access_key_id=access_key_id,
                secret_access_key=secret_access_key,
            )
        except BaseError as error:
            raise StoreError("the object store's S3 settings are not valid") from error
    raise StoreError("the object store must be a folder, file:///folder or s3://bucket/prefix")


def _check_settings(*values: str | None) -> None:
    """In the order of `_SETTINGS`. Raises StoreError."""
    for (name, form), value in zip(_SETTINGS.items(), values, strict=True):
        if value and not form.fullmatch(value):
            raise StoreError(f"the object store's S3 {name} is not valid")
    if bool(values[-2]) != bool(values[-1]):
        raise StoreError("the object store's S3 key id and secret must come together")


def _named(folder: str) -> str:
    if not folder.strip():
        raise StoreError("the object store's folder has no name")
    return folder
