"""Images from base64, a URL or the network volume, checked and made plain before ComfyUI sees them."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from .base64_text import decode_base64
from .fetch import fetch
from .plain_image import DecodeLimits, PlainImage, make_plain
from .volume_file import read_from_volume


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes, pixels and seconds; and the one folder that paths may point into."""

    max_bytes: int
    max_pixels: int
    download_timeout_s: float
    volume: Path


async def load_image(field: str, value: str, limits: ImageLimits) -> PlainImage:
    """The image that a request field names. Raises JobError with that field."""
    limit = limits.max_bytes
    if field.endswith("base64") or (field.endswith("url") and value.lstrip()[:5].lower() == "data:"):
        content = await asyncio.to_thread(decode_base64, value, limit, field)
    elif field.endswith("url"):
        content = await fetch(value, limit, limits.download_timeout_s, field)
    else:
        content = await asyncio.to_thread(read_from_volume, value, limits.volume, limit, field)
    return await make_plain(content, DecodeLimits.of_pixels(limits.max_pixels), field)
