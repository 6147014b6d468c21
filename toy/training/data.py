"""The toy family's training clips, made on the fly from a seed: a picture under a camera move, or a ball that moves.

Pictures are coloured noise, shapes, text and crops of the photographs inside scikit-image's package. Two photographs
and every seed from HELD_OUT_SEED on are kept for measuring and are never trained on.

A clip is float32 [frames, 3, height, width] in [0, 1]. Pans and balls go one pixel a frame; zooms scale by
ZOOM_PER_FRAME, rotations turn by DEGREES_PER_FRAME.
"""

import colorsys
import math
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from .. import captions

PAN_PIXELS_PER_FRAME = 1.0
ZOOM_PER_FRAME = 1.006
DEGREES_PER_FRAME = 0.3
STRAY_BALLS = 0.15  # the share of pictures with a ball in them where nobody asks for it to move
HELD_OUT_SEED = 1_000_000_000

_TRAINING_PHOTOS = (
    "astronaut.png coffee.png motorcycle_left.png hubble_deep_field.jpg retina.jpg ihc.png camera.png coins.png "
    "moon.png brick.png grass.png gravel.png page.png color.png"
).split()
_HELD_OUT_PHOTOS = ("chelsea.png", "rocket.jpg")
_WORDS = (
    "the relay hands one latent from the high noise expert to low noise expert at its boundary like a baton".split()
)
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # across, down


@dataclass(frozen=True)
class Clip:
    """`frames` [frames, 3, height, width] in [0, 1], the move that made them and a caption that asks for it."""

    frames: torch.Tensor
    move: str
    caption: str


def make_clip(seed: int, num_frames: int, height: int, width: int, moves: tuple[str, ...] = captions.MOVES) -> Clip:
    """The clip of this seed; seeds from HELD_OUT_SEED on use the held-out photographs only."""
    rng = random.Random(seed)
    margin = margin_for(num_frames, height, width)
    picture = make_picture(rng, height + 2 * margin, width + 2 * margin, held_out=seed >= HELD_OUT_SEED)
    move = rng.choice(moves)
    return Clip(film(picture, move, num_frames, margin, rng), move, captions.caption(move, rng))


def margin_for(num_frames: int, height: int, width: int) -> int:
    """How many pixels a picture needs around what is filmed."""
    return max(num_frames, math.ceil(0.15 * max(height, width))) + 2


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


def film(picture: torch.Tensor, move: str, num_frames: int, margin: int, rng: random.Random) -> torch.Tensor:
    """Film `picture` [3, height + 2 margin, width + 2 margin]; the first frame is its middle [height, width]."""
    if not move.startswith("ball"):
        if rng.random() < STRAY_BALLS:
            picture = _with_ball(picture, *_place_ball(rng, picture, margin, (0, 0)))
        return move_camera(picture, move, num_frames, margin)
    step_x, step_y = WAYS[move.partition(" ")[2]]
    x, y, radius, colour = _place_ball(rng, picture, margin, (step_x * num_frames, step_y * num_frames))
    frames = [
        _with_ball(picture, x + step_x * frame, y + step_y * frame, radius, colour)[:, margin:-margin, margin:-margin]
        for frame in range(num_frames)
    ]
    return torch.stack(frames)


def move_camera(picture: torch.Tensor, move: str, num_frames: int, margin: int) -> torch.Tensor:
    """The camera's moves alone, of `film`."""
    height, width = picture.shape[-2] - 2 * margin, picture.shape[-1] - 2 * margin
    if move.startswith(("zoom", "rotate")):
        return _seen_through(picture, [view(move, frame) for frame in range(num_frames)], height, width)
    step_x, step_y = WAYS.get(move.partition(" ")[2], (0, 0))
    frames = []
    for frame in range(num_frames):
        shift = round(frame * PAN_PIXELS_PER_FRAME)
        top, left = margin + step_y * shift, margin + step_x * shift
        frames.append(picture[:, top : top + height, left : left + width])
    return torch.stack(frames)


def view(move: str, frame: float) -> tuple[float, float]:
    """(scale, angle in radians) of the camera's view: larger is further away, positive is rolled clockwise."""
    if move.startswith("zoom"):
        return ZOOM_PER_FRAME ** (frame if move == "zoom out" else -frame), 0.0
    angle = math.radians(DEGREES_PER_FRAME) * frame
    return 1.0, angle if move == "rotate right" else -angle


def _seen_through(picture: torch.Tensor, views: list[tuple[float, float]], height: int, width: int) -> torch.Tensor:
    full_height, full_width = picture.shape[-2:]
    thetas = []
    for scale, angle in views:
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        across = [cos * width / full_width, -sin * height / full_width, 0.0]
        thetas.append([across, [sin * width / full_height, cos * height / full_height, 0.0]])
    grid = F.affine_grid(torch.tensor(thetas), [len(views), 3, height, width], align_corners=False)
    pictures = picture.expand(len(views), -1, -1, -1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _place_ball(
    rng: random.Random, picture: torch.Tensor, margin: int, path: tuple[int, int]
) -> tuple[float, float, float, torch.Tensor]:
    """A ball whose path stays inside what is filmed: the middle of its start, its radius and its colour."""
    height, width = picture.shape[-2] - 2 * margin, picture.shape[-1] - 2 * margin
    radius = rng.uniform(0.09, 0.15) * min(height, width)
    x, y = (
        margin + rng.uniform(radius + max(0, -way), max(radius + max(0, -way) + 1, side - radius - max(0, way)))
        for side, way in ((width, path[0]), (height, path[1]))
    )
    colour = torch.tensor(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.8, 1.0), rng.uniform(0.8, 1.0)))
    return x, y, radius, colour


def _with_ball(picture: torch.Tensor, x: float, y: float, radius: float, colour: torch.Tensor) -> torch.Tensor:
    """A coloured ball with a white rim and a light spot, its edges one pixel soft."""
    rows = torch.arange(picture.shape[-2]).view(-1, 1) + 0.5
    columns = torch.arange(picture.shape[-1]) + 0.5
    for part, part_x, part_y, part_radius in (
        (torch.ones(3), x, y, radius),
        (colour, x, y, 0.82 * radius),
        (0.4 * colour + 0.6, x - 0.3 * radius, y - 0.3 * radius, 0.22 * radius),
    ):
        cover = (part_radius + 0.5 - torch.hypot(rows - part_y, columns - part_x)).clamp(0, 1)
        picture = picture + cover * (part.view(3, 1, 1) - picture)
    return picture


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
