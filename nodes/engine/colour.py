"""Float RGB images to the limited-range BT.709 4:2:0 planes that video encoders take.

The whole conversion is one linear map. A convolution of stride 2 reads each 2x2 block of pixels (and, for chroma,
the column left of it) and gives four luma values, one Cb, one Cr and, where wanted, four alpha values:

- luma and chroma by the BT.709 matrix in limited range (Y 16-235, Cb and Cr 16-240 at 8 bit);
- chroma sited "left", the default of H.264, H.265 and VP9: horizontally on the even luma column (weights 1 2 1),
  vertically between two rows (weights 1 1);
- values rounded to the nearest code, never truncated.
"""

import numpy as np
import torch
import torch.nn.functional as F

from ..rules.errors import InvalidInput

KR, KB = 0.2126, 0.0722
KG = 1.0 - KR - KB
LUMA = (KR, KG, KB)
CB = (-KR / 1.8556, -KG / 1.8556, 0.5)
CR = (0.5, -KG / 1.5748, -KB / 1.5748)


class PlaneConverter:
    """Converts images of one size to planes of codes.

    `width` and `height` are those of the video: even, at most one more than the image's.
    """

    def __init__(self, width: int, height: int, channels: int, bit_depth: int = 8, alpha: bool = False):
        self.width, self.height = width, height
        self.bit_depth = bit_depth
        self.alpha = alpha
        self.weight, self.bias = _conversion(channels, bit_depth, alpha)

    def codes(self, image: torch.Tensor) -> np.ndarray:
        """[height, width, channels] floats -> [height/2, width/2, 6 or 10] codes.

        Their order is Y00 Y01 Y10 Y11 Cb Cr (A00 A01 A10 A11): row, then column, inside the 2x2 block.
        Runs on the image's device. Values outside 0..1 are clamped; NaN or infinity raises InvalidInput.
        """
        image = _checked(image)
        height, width, _ = image.shape
        image = image.permute(2, 0, 1)[None]
        if (height, width) != (self.height, self.width):
            image = F.pad(image, (0, self.width - width, 0, self.height - height), mode="replicate")
        if self.weight.device != image.device:
            self.weight, self.bias = self.weight.to(image.device), self.bias.to(image.device)
        values = F.conv2d(image, self.weight, self.bias, stride=2, padding=(0, 1))
        self._mend_left_edge(values, image)
        codes = values.permute(0, 2, 3, 1)[0].to(torch.int16)  # by way of 16 bit: four times faster than float to uint8
        return (codes if self.bit_depth > 8 else codes.to(torch.uint8)).contiguous().cpu().numpy()

    def _mend_left_edge(self, values: torch.Tensor, image: torch.Tensor) -> None:
        """The convolution saw zeros left of the image; the chroma filter wants the first column again."""
        first_column = image[..., 0].unflatten(2, (self.height // 2, 2))
        values[:, 4:6, :, 0] += torch.einsum("bcyr,ocr->boy", first_column, self.weight[4:6, :, :, 0])


def write_planes(codes: np.ndarray, planes: list[np.ndarray]) -> None:
    """Spread `codes` of PlaneConverter over Y, Cb, Cr (, A) planes, each [rows, columns] of the same dtype."""
    pair = np.uint16 if codes.dtype == np.uint8 else np.uint32
    luma, alpha = codes[..., 0:4], codes[..., 6:10]
    for plane, quads in ((planes[0], luma), *(((planes[3], alpha),) if alpha.shape[-1] else ())):
        pairs = quads.view(pair)
        plane[0::2].view(pair)[:] = pairs[..., 0]
        plane[1::2].view(pair)[:] = pairs[..., 1]
    planes[1][:] = codes[..., 4]
    planes[2][:] = codes[..., 5]


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


def _checked(image: torch.Tensor) -> torch.Tensor:
    image = image.float()
    low, high = torch.stack((image.amin(), image.amax())).tolist()
    if low >= 0.0 and high <= 1.0:
        return image
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("hold NaN or infinite values")
    return image.clamp(0.0, 1.0)
