"""Small pictures, and how a refusal reads."""

import io

import pytest
from PIL import Image
from wan_relay.service.contract.errors import JobError
from wan_relay.service.media.plain_image import PlainImage

MB = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24), colour=None) -> Image.Image:
    return Image.new(mode, size, colour if colour is not None else (200, 30, 90))


PNG = encoded(picture())


def refusal(call, *args) -> str:
    with pytest.raises(JobError) as caught:
        call(*args)
    return str(caught.value)


def decoded(plain: PlainImage) -> Image.Image:
    return Image.open(io.BytesIO(plain.content))
