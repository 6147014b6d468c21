import math

import numpy as np
import pytest
import torch
from wan_relay.nodes.engine.video.colour import PlaneConverter
from wan_relay.nodes.rules.errors import InvalidInput


def bt709_planes(image: np.ndarray, bit_depth: int) -> list[np.ndarray]:
    """Y, Cb, Cr as floats in codes, written out from ITU-R BT.709 in float64: an independent construction."""
    scale = 2 ** (bit_depth - 8)
    red, green, blue = np.moveaxis(np.clip(image.astype(np.float64), 0, 1), 2, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def left_sited(full: np.ndarray) -> np.ndarray:
        left = np.concatenate([full[:, :1], full[:, :-1]], axis=1)
        right = np.concatenate([full[:, 1:], full[:, -1:]], axis=1)
        smooth = (left + 2 * full + right)[:, 0::2] / 4
        return (smooth[0::2] + smooth[1::2]) / 2

    cb, cr = left_sited((blue - luma) / 1.8556), left_sited((red - luma) / 1.5748)
    return [(16 + 219 * luma) * scale, (128 + 224 * cb) * scale, (128 + 224 * cr) * scale]


def convert(image: torch.Tensor, bit_depth: int = 8, alpha: bool = False, strip_rows: int | None = None):
    height, width, channels = image.shape
    width, height = width + width % 2, height + height % 2
    converter = PlaneConverter(width, height, channels, bit_depth, alpha)
    converter.strip_rows = strip_rows or converter.strip_rows
    sizes = [(height, width), (height // 2, width // 2), (height // 2, width // 2), (height, width)]
    # Wider than the picture, as an encoder's planes are, and filled with a mark.
    planes = [np.full((rows, columns + 16), 77, converter.dtype) for rows, columns in sizes[: 4 if alpha else 3]]
    views = [plane[:, :columns] for plane, (_, columns) in zip(planes, sizes, strict=False)]
    converter.convert(image, views)
    assert all((plane[:, -16:] == 77).all() for plane in planes)
    return views


def noise(height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(height, width, channels, generator=torch.Generator().manual_seed(height * width + channels))


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("strip_rows", [None, 4])
def test_planes_are_the_nearest_bt709_codes(bit_depth, strip_rows):
    image = noise(38, 70)
    planes = convert(image, bit_depth, strip_rows=strip_rows)
    for plane, exact in zip(planes, bt709_planes(image.numpy(), bit_depth), strict=True):
        # half a code, and the rounding error of float32 at a tie
        assert np.abs(plane - exact).max() <= 0.5 + 1e-3 * bit_depth


@pytest.mark.parametrize(
    ("rgb", "codes"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((1, 1, 1), (235, 128, 128)),
        ((1, 0, 0), (63, 102, 240)),
        ((0, 1, 0), (173, 42, 26)),
        ((0, 0, 1), (32, 240, 118)),
        ((0.5, 0.5, 0.5), (126, 128, 128)),
    ],
)
def test_known_colours_get_the_codes_of_the_standard(rgb, codes):
    planes = convert(torch.tensor(rgb, dtype=torch.float32).expand(4, 6, 3))
    assert [np.unique(plane).tolist() for plane in planes] == [[code] for code in codes]


def test_odd_sides_repeat_the_last_column_and_row():
    image = noise(7, 9)
    padded = torch.cat([image, image[:, -1:]], 1)
    padded = torch.cat([padded, padded[-1:]], 0)
    for strip_rows in (None, 2):
        for plane, expected in zip(convert(image, strip_rows=strip_rows), convert(padded), strict=True):
            np.testing.assert_array_equal(plane, expected)


def test_one_channel_is_grey():
    image = noise(6, 8, 1)
    for plane, expected in zip(convert(image), convert(image.expand(-1, -1, 3)), strict=True):
        np.testing.assert_array_equal(plane, expected)


def test_alpha_is_kept_in_full_range_and_leaves_the_colours_alone():
    image = noise(6, 8, 4)
    planes = convert(image, alpha=True)
    np.testing.assert_array_equal(planes[3], np.floor(image[..., 3].numpy() * 255 + 0.5))
    for with_alpha, dropped, expected in zip(planes[:3], convert(image), convert(image[..., :3]), strict=True):
        np.testing.assert_array_equal(with_alpha, expected)
        np.testing.assert_array_equal(dropped, expected)


def test_values_outside_the_range_are_clamped():
    image = noise(6, 8) * 3 - 1
    for plane, expected in zip(convert(image), convert(image.clamp(0, 1)), strict=True):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    image = noise(6, 8)
    image[5, 7, 2] = bad
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        convert(image)


def test_half_precision_and_views_give_the_same_planes():
    image = noise(8, 6).half()
    expected = convert(image.float())
    for same in (image, image.permute(2, 0, 1).contiguous().permute(1, 2, 0), image.flip(0).flip(0)):
        for plane, wanted in zip(convert(same), expected, strict=True):
            np.testing.assert_array_equal(plane, wanted)
