"""Bytes from base64 as clients really send it."""

import base64
import binascii
import re

from ..contract.errors import JobError

_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)


def decode_base64(text: str, limit: int, field: str) -> bytes:
    """Takes a data URI, the URL-safe alphabet, white space and missing padding; rejects anything else."""
    text = text.strip()
    if text[:5].lower() == "data:":
        prefix = _DATA_URI.match(text[:300])
        if not prefix or not prefix[1]:
            raise JobError("INVALID_IMAGE", f"{field} is a data URI that is not base64", field)
        text = text[prefix.end() :]
    if len(text) > limit * 3 // 2:
        raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise JobError("INVALID_IMAGE", f"{field} is not valid base64", field) from None
    if len(content) > limit:
        raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    return content
