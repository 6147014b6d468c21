"""How large a video is after upscaling."""

from ..errors import InvalidInput

MAX_FACTOR = 4.0
MAX_SIDE = 8192  # what the codecs of Save Video take


def upscaled_size(width: int, height: int, factor: float) -> tuple[int, int]:
    """Pixels of width and height times `factor`, each to the nearest even number, as 4:2:0 video needs it.

    Raises InvalidInput.
    """
    if not 1 <= factor <= MAX_FACTOR:
        raise InvalidInput(f"factor must be 1 to {MAX_FACTOR:g}; got {factor:g}.")
    if factor == 1:
        return width, height
    size = (2 * round(width * factor / 2), 2 * round(height * factor / 2))
    if max(size) > MAX_SIDE:
        raise InvalidInput(
            f"factor {factor:g} makes {size[0]} x {size[1]} pixels of {width} x {height}; at most {MAX_SIDE} a side."
        )
    return size
