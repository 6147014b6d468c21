"""Bytes from base64 as clients really send it."""

import base64
import binascii
import re

from ..contract.errors import JobError

_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)
_NO_LINE_BREAKS = str.maketrans("", "", "\t\n\r")


def decode_base64(text: str, limit: int, field: str) -> bytes:
    """Takes a data URI, the URL-safe alphabet, white space, missing padding, and blanks that were a `+` before a form
    was decoded; rejects anything else. Raises JobError.
    """
    text = text.strip()
    if text[:5].lower() == "data:":
        prefix = _DATA_URI.match(text[:300])
        if not prefix or not prefix[1]:
            raise JobError("INVALID_IMAGE", f"{field} is a data URI that is not base64", field)
        text = text[prefix.end() :]
    if len(text) > limit * 3 // 2:
        raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    text = _without_blanks(text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise JobError("INVALID_IMAGE", f"{field} is not valid base64", field) from None
    if len(content) > limit:
        raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    return content


def _without_blanks(text: str) -> str:
    """Line breaks are folding. Blanks are folding too, or each stands for a `+`: the reading that gives whole groups
    of four characters is right. If both or neither do, folded lines are those of one length, in whole groups and
    at most 76 characters (RFC 2045).
    """
    text = text.translate(_NO_LINE_BREAKS)
    folded, with_plus = text.replace(" ", ""), text.replace(" ", "+")
    if (len(folded) % 4 == 0) != (len(with_plus) % 4 == 0):
        return folded if len(folded) % 4 == 0 else with_plus
    lines = text.split()
    is_folded = all(len(line) == len(lines[0]) <= 76 and len(line) % 4 == 0 for line in lines[:-1])
    return folded if is_folded else with_plus
