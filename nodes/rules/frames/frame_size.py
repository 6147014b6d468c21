"""How large a Wan video is: sides in whole patches, within a pixel budget, and how an image is laid onto it.

Wan2.2 A14B needs multiples of 16 (VAE 8 x patch 2), TI2V-5B multiples of 32 (VAE 16 x patch 2).
"""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import TypedDict

from ..errors import InvalidInput

A14B_MULTIPLE = 16
TI2V_5B_MULTIPLE = 32
SIZINGS = ("fixed", "match image")
BUDGETS = {"480p": (832, 480), "580p": (1024, 576), "720p": (1280, 720)}
TI2V_5B_BUDGETS = BUDGETS | {"720p": (1280, 704)}
"""The usual numbers of pixels, as the size that a 16:9 video has; 580p is no size of the reference's."""
FITS = ("crop", "pad", "stretch")
CROP_POSITIONS = {"center": (1, 1), "top": (1, 0), "bottom": (1, 2), "left": (0, 1), "right": (2, 1)}
"""How many halves of what is cut off lie before the part that stays: across, and down."""


def nearest_multiple(side: int, multiple: int) -> int:
    """The multiple nearest to `side`, halfway up (528 -> 544 for 32), and never less than one multiple."""
    return max(multiple, (2 * side + multiple) // (2 * multiple) * multiple)


def fixed_size(width: int, height: int, multiple: int = A14B_MULTIPLE) -> tuple[int, int]:
    """Width and height, each at its nearest multiple."""
    return nearest_multiple(width, multiple), nearest_multiple(height, multiple)


def match_image_size(image_width: int, image_height: int, max_area: int) -> tuple[int, int]:
    """The A14B reference's size: the image's aspect at `max_area` pixels, each side floored to 16 by itself.

    Wan2.2 image2video.py computes it in floats, where a native 832x480 image lands at 479.99999999999994 and
    becomes 832x464. Integers have no such accident: 832x480 stays 832x480. Every other case is equal.
    """
    m = A14B_MULTIPLE
    width = m * isqrt(max_area * image_width // (image_height * m * m))
    height = m * isqrt(max_area * image_height // (image_width * m * m))
    return width, height


def best_output_size(image_width: int, image_height: int, max_area: int) -> tuple[int, int]:
    """The TI2V-5B reference's size: floor one side to 32, give the other what is left, keep the better aspect.

    Wan2.2 utils.best_output_size; on a tie the height is the one floored first.
    """
    m = TI2V_5B_MULTIPLE
    ratio = Fraction(image_width, image_height)

    def distortion(size: tuple[int, int]) -> Fraction:
        got = Fraction(*size)
        return max(ratio / got, got / ratio)

    width = m * isqrt(max_area * image_width // (image_height * m * m))
    height = m * isqrt(max_area * image_height // (image_width * m * m))
    if not width or not height:
        return width, height
    width_first = width, max_area // width // m * m
    height_first = max_area // height // m * m, height
    return width_first if distortion(width_first) < distortion(height_first) else height_first


class SizePlan(TypedDict):
    """Pixels that will be used, and a sentence for every side that was changed."""

    width: int
    height: int
    warnings: list[str]


def plan_size(
    width: int,
    height: int,
    sizing: str = "fixed",
    image_size: tuple[int, int] | None = None,
    multiple: int = A14B_MULTIPLE,
) -> SizePlan:
    """The frame size that will be used; `image_size` is (width, height), and without one every size is fixed.

    Raises InvalidInput for a size that cannot work.
    """
    if sizing not in SIZINGS:
        raise InvalidInput(f"sizing must be 'fixed' or 'match image', got '{sizing}'.")
    if width < 1 or height < 1:
        raise InvalidInput(f"width and height must be at least 1 pixel, got {width}x{height}.")
    if sizing == "fixed" or image_size is None:
        got_width, got_height = fixed_size(width, height, multiple)
        warnings = [
            f"{name} {asked} is not a multiple of {multiple}; {got} is used."
            for name, asked, got in (("width", width, got_width), ("height", height, got_height))
            if asked != got
        ]
        return {"width": got_width, "height": got_height, "warnings": warnings}

    image_width, image_height = image_size
    if image_width < 1 or image_height < 1:
        raise InvalidInput(f"the image to match must have pixels, got {image_width}x{image_height}.")
    rule = best_output_size if multiple == TI2V_5B_MULTIPLE else match_image_size
    got_width, got_height = rule(image_width, image_height, width * height)
    if not got_width or not got_height:
        raise InvalidInput(
            f"an image of {image_width}x{image_height} leaves a side shorter than {multiple} pixels within "
            f"{width}x{height} = {width * height} pixels: crop the image, or raise width and height."
        )
    return {"width": got_width, "height": got_height, "warnings": []}


@dataclass(frozen=True)
class Placement:
    """An image scaled to `scaled_width` x `scaled_height`; its pixel (left, top) becomes the frame's (0, 0).

    Negative `left` and `top` mean bars around the image.
    """

    scaled_width: int
    scaled_height: int
    left: int
    top: int

    def crop_percent(self, width: int, height: int) -> tuple[float, float, float, float] | None:
        """Left, top, width and height of the part that a frame of width x height shows, in percent of the image.

        None where nothing of it is cut off.
        """
        if self.scaled_width <= width and self.scaled_height <= height:
            return None
        across, down = 100 / self.scaled_width, 100 / self.scaled_height
        return self.left * across, self.top * down, width * across, height * down


def place_image(
    image_width: int, image_height: int, width: int, height: int, fit: str, crop_position: str = "center"
) -> Placement:
    """How `fit` lays an image onto a width x height frame.

    crop: scale to cover, cut the part at `crop_position` out (the middle, as the TI2V-5B reference does). pad: scale to
    fit inside, centred. stretch: each side by itself (as the A14B reference does).
    """
    if fit not in FITS:
        raise InvalidInput(f"fit must be 'crop', 'pad' or 'stretch', got '{fit}'.")
    if crop_position not in CROP_POSITIONS:
        raise InvalidInput(f"crop_position must be one of {', '.join(CROP_POSITIONS)}, got '{crop_position}'.")
    if fit == "stretch":
        return Placement(width, height, 0, 0)
    across, down = Fraction(width, image_width), Fraction(height, image_height)
    scale = max(across, down) if fit == "crop" else min(across, down)
    scaled_width = width if scale == across else max(1, round(image_width * scale))
    scaled_height = height if scale == down else max(1, round(image_height * scale))
    halves_across, halves_down = CROP_POSITIONS[crop_position if fit == "crop" else "center"]
    left, top = (scaled_width - width) * halves_across // 2, (scaled_height - height) * halves_down // 2
    return Placement(scaled_width, scaled_height, left, top)


def placement_changes(image_size: tuple[int, int], width: int, height: int, fit: str) -> list[tuple[str, float]]:
    """What `fit` takes away, adds or distorts, each with its percentage; empty when the picture fits exactly.

    crop_width, crop_height: of the image's side. pad_width, pad_height: of the frame's side. wider, narrower: of the
    image's aspect.
    """
    image_width, image_height = image_size
    if image_width * height == image_height * width:
        return []
    place = place_image(image_width, image_height, width, height, fit)
    if fit == "stretch":
        percent = 100 * (width * image_height / (height * image_width) - 1)
        return [("wider" if percent > 0 else "narrower", abs(percent))]
    changes = []
    for side, scaled, frame in (("width", place.scaled_width, width), ("height", place.scaled_height, height)):
        if scaled > frame:
            changes.append((f"crop_{side}", 100 * (scaled - frame) / scaled))
        elif scaled < frame:
            changes.append((f"pad_{side}", 100 * (frame - scaled) / frame))
    return changes


def describe_placement(name: str, image_size: tuple[int, int], width: int, height: int, fit: str) -> list[str]:
    """A sentence for every one of `placement_changes`."""
    head = f"{name} of {image_size[0]}x{image_size[1]}"
    sentences = []
    for change, percent in placement_changes(image_size, width, height, fit):
        how, _, side = change.partition("_")
        if how == "crop":
            sentences.append(f"{head} loses {percent:.1f}% of its {side} to fill {width}x{height}.")
        elif how == "pad":
            sentences.append(f"{head} gets black bars over {percent:.1f}% of the {side} of {width}x{height}.")
        else:
            sentences.append(f"{head} is stretched to {width}x{height}, {percent:.1f}% {how}.")
    return sentences
