"""Images from base64, a URL or the network volume, checked and made plain before ComfyUI sees them."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from .addresses import TrustedHosts
from .base64_text import decode_base64
from .fetch import fetch
from .plain_image import DecodeLimits, PlainImage, make_plain
from .volume_file import read_from_volume


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes, pixels and seconds; and where it may lie: the one folder that paths may point
    into, and the hosts that URLs may name besides public ones.
    """

    max_bytes: int
    max_pixels: int
    download_timeout_s: float
    volume: Path
    trusted_hosts: TrustedHosts


async def load_image(field: str, value: str, limits: ImageLimits, form: str | None = None) -> PlainImage:
    """The image that a request field names; `form` says what `value` is where the field's name does not end in
    base64, url or path. Raises JobError with that field.
    """
    limit, form = limits.max_bytes, form or field
    if form.endswith("base64") or (form.endswith("url") and value.lstrip()[:5].lower() == "data:"):
        content = await asyncio.to_thread(decode_base64, value, limit, field)
    elif form.endswith("url"):
        content = await fetch(value, limit, limits.download_timeout_s, field, limits.trusted_hosts)
    else:
        content = await asyncio.to_thread(read_from_volume, value, limits.volume, limit, field)
    return await make_plain(content, DecodeLimits.of_pixels(limits.max_pixels), field)
