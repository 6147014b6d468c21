"""What an executor says when the object store fails it."""

from ..contract.errors import JobError
from ..store.object_store import StoreError, StoreFullError


def store_failure(error: Exception) -> Exception:
    """The JobError of a store's error; any other error is itself."""
    if not isinstance(error, StoreError):
        return error
    return JobError("STORE_FULL" if isinstance(error, StoreFullError) else "STORE_UNAVAILABLE", error.sentence)
