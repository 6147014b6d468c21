"""An order's request, whole again: its pictures come out of the object store."""

import asyncio
import base64

from ..contract.errors import JobError
from ..contract.video_request import VideoRequest, parse_request
from ..store.object_store import ObjectNotFoundError, ObjectStore
from ..tasks.task import Order
from .store_failures import store_failure


async def whole_request(order: Order, store: ObjectStore, seed: int) -> VideoRequest:
    """With the pictures as base64, and the seed that was drawn for the task. Raises JobError."""
    fields = list(order.pictures)
    contents = await asyncio.gather(*(_picture(field, order.pictures[field], store) for field in fields))
    raw = {**order.request, **dict(zip(fields, contents, strict=True)), "seed": seed}
    return parse_request(raw)[0]


async def _picture(field: str, key: str, store: ObjectStore) -> str:
    try:
        content = await store.get(key)
    except ObjectNotFoundError:
        raise JobError("FILE_NOT_FOUND", f"the picture of {field} is not in the store any more", field) from None
    except Exception as error:
        raise store_failure(error) from None
    return (await asyncio.to_thread(base64.b64encode, content)).decode("ascii")
