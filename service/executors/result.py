"""A finished video's way into the object store, under a name that was drawn once."""

import asyncio
import secrets
import time
from collections.abc import Callable

from ..contract.seeds import MAX_DRAWN_SEED
from ..store.object_store import Content, ObjectStore, StoreUnavailableError
from ..tasks.names import result_key
from ..tasks.task import Order, Video
from .backend import Begun
from .store_failures import store_failure

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 10.0
SUFFIXES = (".mp4", ".webm")


def draw(order: Order) -> Begun:
    """The seed and the file's name. A second try makes the same video under the same name, over what the first left."""
    seed = order.request.get("seed", -1)
    return {
        "seed": seed if isinstance(seed, int) and seed >= 0 else secrets.randbelow(MAX_DRAWN_SEED + 1),
        "name": secrets.token_hex(6),
    }


async def keep(
    store: ObjectStore,
    task_id: str,
    begun: Begun,
    suffix: str,
    content: Callable[[], Content],
    mime_type: str,
    limit_s: float,
) -> Video:
    """A store that does not answer is asked again for `limit_s` seconds. Raises JobError, and what `content` raises."""
    key = result_key(task_id, begun["name"], suffix)
    give_up, pause_s = time.monotonic() + limit_s, FIRST_PAUSE_S
    while True:
        try:
            stored = await store.put(key, content(), mime_type)
            return Video(key=key, size=stored.size)
        except StoreUnavailableError as error:
            if time.monotonic() + pause_s > give_up:
                raise store_failure(error) from None
        except Exception as error:
            raise store_failure(error) from None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, MAX_PAUSE_S)


async def remove(store: ObjectStore, task_id: str, begun: Begun) -> None:
    for suffix in SUFFIXES:
        await store.delete(result_key(task_id, begun["name"], suffix))
