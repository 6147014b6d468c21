"""Pictures of a finished video: one frame, or some on a sheet."""

import io
from collections.abc import Iterator

import av
from PIL import Image

SIDE = 512  # pixels of a thumbnail's longer side
SHEET_COLUMNS = 5
SHEET_CELLS = 25
CELL_SIDE = 240


def thumbnail(content: bytes) -> bytes:
    """The first frame as JPEG."""
    picture = next(_frames(content))
    picture.thumbnail((SIDE, SIDE))
    return _jpeg(picture)


def spritesheet(content: bytes) -> bytes:
    """Up to 25 frames from the first to the last, row by row, as JPEG."""
    frames = list(_frames(content, CELL_SIDE))
    count = min(SHEET_CELLS, len(frames))
    chosen = [frames[round(n * (len(frames) - 1) / max(count - 1, 1))] for n in range(count)]
    width, height = chosen[0].size
    columns = min(SHEET_COLUMNS, count)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for n, picture in enumerate(chosen):
        sheet.paste(picture, (n % columns * width, n // columns * height))
    return _jpeg(sheet)


def _frames(content: bytes, side: int | None = None) -> Iterator[Image.Image]:
    """RGB pictures, at most `side` pixels on the longer side."""
    with av.open(io.BytesIO(content)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_image()
            if side:
                picture.thumbnail((side, side))
            yield picture


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return out.getvalue()
