"""Keeps a store under its cap."""

import time
from collections.abc import Callable

from .object_store import ObjectStore

SAFE_S = 600.0  # younger objects belong to tasks that wait, run or have just ended


async def make_room(store: ObjectStore, max_bytes: int, clock: Callable[[], float] = time.time) -> list[str]:
    """Deletes the oldest objects, inputs as results, until all together are no more than `max_bytes`; none that is
    younger than ten minutes, so that it may stay above. First goes what killed writers left.

    Returns the keys of what was deleted. Raises StoreError.
    """
    await store.remove_leftovers(SAFE_S)
    objects = [stored async for stored in store.list()]
    total = sum(stored.size for stored in objects)
    newest = clock() - SAFE_S
    deleted = []
    for stored in sorted(objects, key=lambda stored: (stored.modified_s, stored.key)):
        if total <= max_bytes or stored.modified_s > newest:
            break
        await store.delete(stored.key)
        total -= stored.size
        deleted.append(stored.key)
    return deleted
