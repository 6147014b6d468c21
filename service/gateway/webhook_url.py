"""The address that a client wants to be called at, checked as far as a name can be before it is dialled."""

from ..contract.errors import JobError
from ..media.guarded_http import BadUrl, dialled_url


def webhook_url(value: object, field: str) -> str:
    """Raises JobError INVALID_URL. Whether the host is one that may be called shows when it is."""
    if not isinstance(value, str):
        raise JobError("INVALID_TYPE", f"{field} must be a string", field)
    try:
        dialled_url(value)
    except BadUrl as error:
        raise JobError("INVALID_URL", f"{field} {error}", field) from None
    return value.strip()
