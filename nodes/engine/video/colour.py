"""Float RGB images to the limited-range BT.709 4:2:0 planes that video encoders take.

The whole conversion is one linear map. A convolution of stride 2 reads each 2x2 block of pixels (and, for chroma,
the column left of it) and gives four luma values, one Cb, one Cr and, where wanted, four alpha values:

- luma and chroma by the BT.709 matrix in limited range (Y 16-235, Cb and Cr 16-240 at 8 bit);
- chroma sited "left", the default of H.264, H.265 and VP9: horizontally on the even luma column (weights 1 2 1),
  vertically between two rows (weights 1 1);
- values rounded to the nearest code, never truncated.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ...rules.errors import InvalidInput

KR, KB = 0.2126, 0.0722
KG = 1.0 - KR - KB
LUMA = (KR, KG, KB)
CB = (-KR / 1.8556, -KG / 1.8556, 0.5)
CR = (0.5, -KG / 1.5748, -KB / 1.5748)

STRIP_BYTES = 4_000_000  # of float pixels: read once from memory, twice more from the cache


class PlaneConverter:
    """Converts images of one size to planes of codes.

    `width` and `height` are those of the video: even, at most one more than the image's, which is padded by repeating
    its last column or row.
    """

    def __init__(self, width: int, height: int, channels: int, bit_depth: int = 8, alpha: bool = False):
        self.width, self.height = width, height
        self.bit_depth = bit_depth
        self.dtype = np.dtype(np.uint8 if bit_depth == 8 else np.uint16)
        self.weight, self.bias = _conversion(channels, bit_depth, alpha)
        self.strip_rows = max(2, STRIP_BYTES // (width * channels * 4) // 2 * 2)

    def convert(self, image: torch.Tensor, planes: list[np.ndarray]) -> None:
        """Fill `planes` (Y, Cb, Cr and, with alpha, A; uint8 or uint16) from `image` [height, width, channels].

        Runs on the image's device: on the CPU in strips that stay in its cache, on a GPU in one piece (where cuDNN may
        use TF32, a tenth of an 8-bit code). Values outside 0..1 are clamped.
        Raises InvalidInput for NaN or infinity.
        """
        if self.weight.device != image.device:
            self.weight, self.bias = self.weight.to(image.device), self.bias.to(image.device)
        rows = self.strip_rows if image.device.type == "cpu" else self.height
        for top in range(0, self.height, rows):
            codes = self._codes(image[top : top + rows])
            _spread(codes, planes, top // 2)

    def _codes(self, strip: torch.Tensor) -> np.ndarray:
        """[rows, width, channels] floats -> [rows/2, width/2, 6 or 10] codes.

        Their order is Y00 Y01 Y10 Y11 Cb Cr (A00 A01 A10 A11): row, then column, inside the 2x2 block.
        """
        strip = _in_range(strip).permute(2, 0, 1)[None]
        odd_row, odd_column = strip.shape[2] % 2, self.width - strip.shape[3]
        if odd_row or odd_column:
            strip = F.pad(strip, (0, odd_column, 0, odd_row), mode="replicate")
        values = F.conv2d(strip, self.weight, self.bias, stride=2, padding=(0, 1))
        # The convolution saw zeros left of the image; the chroma filter wants the first column again.
        first_column = strip[..., 0].unflatten(2, (-1, 2))
        values[:, 4:6, :, 0] += torch.einsum("bcyr,ocr->boy", first_column, self.weight[4:6, :, :, 0])
        codes = values.permute(0, 2, 3, 1)[0].to(torch.int16)  # by way of 16 bit: faster than float to uint8
        codes = codes.to(torch.uint8) if self.bit_depth == 8 else codes
        return codes.contiguous().cpu().numpy().view(self.dtype)


def _spread(codes: np.ndarray, planes: list[np.ndarray], top: int) -> None:
    """Write [rows/2, width/2, 6 or 10] codes into the planes from chroma row `top` down."""
    rows = slice(top, top + codes.shape[0])
    pair = np.uint16 if codes.dtype == np.uint8 else np.uint32  # two neighbours in a row are copied as one number
    for plane, first in zip([planes[0], *planes[3:]], (0, 6), strict=False):
        pairs = codes[..., first : first + 4].view(pair)
        plane[0::2].view(pair)[rows] = pairs[..., 0]
        plane[1::2].view(pair)[rows] = pairs[..., 1]
    planes[1][rows] = codes[..., 4]
    planes[2][rows] = codes[..., 5]


def _conversion(channels: int, bit_depth: int, alpha: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [6 or 10, channels, 2 rows, 3 columns] and bias, in codes, with the half that makes truncation round."""
    scale = 2 ** (bit_depth - 8)
    luma, cb, cr = (_per_channel(row, channels) for row in (LUMA, CB, CR))
    quad = [(row, column) for row in (0, 1) for column in (0, 1)]
    weight = torch.zeros(10 if alpha else 6, channels, 2, 3)
    bias = torch.empty(weight.shape[0])
    for k, (row, column) in enumerate(quad):
        weight[k, :, row, column + 1] = luma * 219 * scale
    bias[0:4] = 16 * scale
    left_sited = torch.tensor([1.0, 2.0, 1.0]).expand(2, 3) / 8
    for k, chroma in ((4, cb), (5, cr)):
        weight[k] = chroma[:, None, None] * left_sited * 224 * scale
    bias[4:6] = 128 * scale
    if alpha:
        for k, (row, column) in enumerate(quad):
            weight[6 + k, 3, row, column + 1] = 2**bit_depth - 1
        bias[6:10] = 0
    return weight.contiguous(memory_format=torch.channels_last), bias + 0.5


def _per_channel(row: tuple[float, float, float], channels: int) -> torch.Tensor:
    if channels == 1:
        return torch.tensor([sum(row)])
    return torch.tensor(row + (0.0,) * (channels - 3))


def _in_range(image: torch.Tensor) -> torch.Tensor:
    image = image.float()
    low, high = torch.stack((image.amin(), image.amax())).tolist()
    if low >= 0.0 and high <= 1.0:
        return image
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidInput("holds NaN or infinite values")
    return image.clamp(0.0, 1.0)
