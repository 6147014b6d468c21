"""The toy family's training clips, made on the fly from a seed: a still picture under a camera move.

Pictures are coloured noise, shapes, text and crops of the photographs inside scikit-image's package. Two photographs
and every seed from HELD_OUT_SEED on are kept for measuring and are never trained on.

A clip is float32 [frames, 3, height, width] in [0, 1]. Pans go one pixel a frame; zooms scale by ZOOM_PER_FRAME.
"""

import math
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from . import captions

PAN_PIXELS_PER_FRAME = 1.0
ZOOM_PER_FRAME = 1.0075
HELD_OUT_SEED = 1_000_000_000

_TRAINING_PHOTOS = (
    "astronaut.png coffee.png motorcycle_left.png hubble_deep_field.jpg retina.jpg ihc.png camera.png coins.png "
    "moon.png brick.png grass.png gravel.png page.png color.png"
).split()
_HELD_OUT_PHOTOS = ("chelsea.png", "rocket.jpg")
_WORDS = (
    "the relay hands one latent from the high noise expert to low noise expert at its boundary like a baton".split()
)
_PAN_DIRECTION = {"pan left": (-1, 0), "pan right": (1, 0), "pan up": (0, -1), "pan down": (0, 1)}


@dataclass(frozen=True)
class Clip:
    """`frames` [frames, 3, height, width] in [0, 1], the move that made them and a caption that asks for it."""

    frames: torch.Tensor
    move: str
    caption: str


def make_clip(seed: int, num_frames: int, height: int, width: int, moves: tuple[str, ...] = captions.MOVES) -> Clip:
    """The clip of this seed; seeds from HELD_OUT_SEED on use the held-out photographs only."""
    rng = random.Random(seed)
    margin = max(num_frames, math.ceil(0.15 * max(height, width))) + 2
    picture = make_picture(rng, height + 2 * margin, width + 2 * margin, held_out=seed >= HELD_OUT_SEED)
    move = rng.choice(moves)
    return Clip(move_camera(picture, move, num_frames, margin), move, captions.caption(move, rng))


def make_picture(rng: random.Random, height: int, width: int, held_out: bool = False) -> torch.Tensor:
    """A still picture [3, height, width] in [0, 1]."""
    kind = rng.random()
    if kind < 0.45:
        picture = _photo_crop(rng, height, width, held_out)
    elif kind < 0.65:
        picture = _coloured_noise(rng, height, width)
    else:
        picture = _drawing(rng, height, width)
    if rng.random() < 0.5:
        picture = picture.flip(-1)
    return picture


def move_camera(picture: torch.Tensor, move: str, num_frames: int, margin: int) -> torch.Tensor:
    """Film `picture` [3, height + 2 margin, width + 2 margin]; the first frame is its middle [height, width]."""
    height, width = picture.shape[-2] - 2 * margin, picture.shape[-1] - 2 * margin
    if move.startswith("zoom"):
        return torch.cat([_zoomed(picture, move, frame, height, width) for frame in range(num_frames)])
    step_x, step_y = _PAN_DIRECTION.get(move, (0, 0))
    frames = []
    for frame in range(num_frames):
        shift = round(frame * PAN_PIXELS_PER_FRAME)
        top, left = margin + step_y * shift, margin + step_x * shift
        frames.append(picture[:, top : top + height, left : left + width])
    return torch.stack(frames)


def _zoomed(picture: torch.Tensor, move: str, frame: int, height: int, width: int) -> torch.Tensor:
    view = ZOOM_PER_FRAME ** (frame if move == "zoom out" else -frame)
    scale_x, scale_y = view * width / picture.shape[-1], view * height / picture.shape[-2]
    theta = torch.tensor([[[scale_x, 0.0, 0.0], [0.0, scale_y, 0.0]]])
    grid = F.affine_grid(theta, [1, 3, height, width], align_corners=False)
    return F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@cache
def _photos(held_out: bool) -> list[Image.Image]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = _HELD_OUT_PHOTOS if held_out else _TRAINING_PHOTOS
    photos = [Image.open(folder / name).convert("RGB") for name in names]
    for photo in photos:
        photo.thumbnail((720, 720), Image.Resampling.LANCZOS)
    return photos


def _photo_crop(rng: random.Random, height: int, width: int, held_out: bool) -> torch.Tensor:
    photo = rng.choice(_photos(held_out))
    smallest = min(photo.width / width, photo.height / height)
    scale = smallest * rng.uniform(0.6, 1.0)
    crop_width, crop_height = scale * width, scale * height
    left, top = rng.uniform(0, photo.width - crop_width), rng.uniform(0, photo.height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    picture = _to_tensor(photo.resize((width, height), Image.Resampling.LANCZOS, box=box))
    if held_out or rng.random() < 0.5:
        return picture
    gain = torch.tensor([rng.uniform(0.7, 1.2) for _ in range(3)]).view(3, 1, 1)
    return (picture[torch.randperm(3, generator=_torch_rng(rng))] * gain).clamp(0, 1)


def _coloured_noise(rng: random.Random, height: int, width: int) -> torch.Tensor:
    """Noise whose spectrum falls as 1/f^slope, as photographs' does (slope 1 to 2), in a random palette."""
    generator = _torch_rng(rng)
    frequency = torch.sqrt(torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None] ** 2)
    spectrum = torch.fft.rfft2(torch.randn(3, height, width, generator=generator))
    noise = torch.fft.irfft2(spectrum / frequency.clamp(min=1 / max(height, width)) ** rng.uniform(1.2, 2.0))
    noise = noise.view(3, height, width) / noise.flatten(1).std(dim=1).view(3, 1, 1)
    palette = torch.randn(3, 3, generator=generator) * 0.12
    return (torch.einsum("dc,chw->dhw", palette, noise) + torch.rand(3, 1, 1, generator=generator)).clamp(0, 1)


def _drawing(rng: random.Random, height: int, width: int) -> torch.Tensor:
    """Shapes and words on a gradient, drawn at twice the size and reduced."""
    background = _gradient(rng, height, width) if rng.random() < 0.6 else _coloured_noise(rng, height, width)
    image = _to_image(background).resize((2 * width, 2 * height))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(3, 14)):
        _draw_shape(draw, rng, image.width, image.height)
    if rng.random() < 0.4:
        for _ in range(rng.randint(1, 6)):
            font = ImageFont.load_default(rng.randint(24, 70))
            text = " ".join(rng.choices(_WORDS, k=4))
            position = (rng.uniform(-0.2, 0.8) * image.width, rng.random() * image.height)
            draw.text(position, text, fill=_colour(rng), font=font)
    return _to_tensor(image.resize((width, height), Image.Resampling.BOX))


def _draw_shape(draw: ImageDraw.ImageDraw, rng: random.Random, width: int, height: int) -> None:
    x, y, radius = rng.random() * width, rng.random() * height, rng.uniform(0.03, 0.2) * width
    box = (x - radius, y - radius * rng.uniform(0.3, 1), x + radius, y + radius)
    kind = rng.random()
    if kind < 0.35:
        draw.ellipse(box, fill=_colour(rng))
    elif kind < 0.65:
        draw.rectangle(box, fill=_colour(rng))
    else:
        corners = rng.randint(3, 7)
        turn = rng.uniform(0, math.tau)
        angles = [turn + math.tau * corner / corners for corner in range(corners)]
        draw.polygon([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], fill=_colour(rng))


def _gradient(rng: random.Random, height: int, width: int) -> torch.Tensor:
    corners = torch.rand(1, 3, 2, 2, generator=_torch_rng(rng))
    return F.interpolate(corners, size=(height, width), mode="bilinear", align_corners=True)[0]


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def _torch_rng(rng: random.Random) -> torch.Generator:
    return torch.Generator().manual_seed(rng.getrandbits(48))


def _to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0).permute(2, 0, 1).contiguous()


def _to_image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray((picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
