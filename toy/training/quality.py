"""How good the toy family is, measured through ComfyUI's loaders and what the pack's own nodes call.

Everything here works on held-out clips (see data.py). Losses are the flow-matching ones: the squared error of the
predicted velocity, averaged over latents and noise levels.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import comfy.samplers
import comfy.sd
import comfy.utils
import node_helpers
import numpy as np
import torch

from ...nodes.engine.files.lora_patches import apply_lora, read_lora
from ...nodes.engine.frames.image_conditioning import condition_on_images
from ...nodes.engine.frames.known_frames import Clip, KnownFrames
from ...nodes.engine.frames.wan_vae import recognise_wan_vae
from ...nodes.engine.relay.relay_run import RelaySettings, make_guider, run_relay
from .. import captions
from ..family import text_encoder_config
from . import data

SHIFT, BOUNDARY = 5.0, 0.9
STILL_BELOW = 0.3  # a camera that moves slower than this share of the data's speeds stands still
PART_SPEED, REST_SPEED, PART_SHARE = 0.35, 0.1, 0.003  # a ball: what moves this fast where most of the picture rests,
PART_TOGETHER = 0.8  # and in one direction: the length of its mean flow over the mean length
LOSS_SIGMAS = (1.0, 0.98, 0.95, 0.92, 0.87, 0.8, 0.7, 0.55, 0.4)


@dataclass(frozen=True)
class Pair:
    """Two MODELs and the boundary between them; the same MODEL twice is one expert for every noise level."""

    high: Any
    low: Any
    boundary: float = BOUNDARY


@dataclass(frozen=True)
class Example:
    """A batch of clips that share a move: frames [clips, frames, height, width, 3] in [0, 1], latents, conditioning."""

    move: str
    frames: torch.Tensor
    latents: torch.Tensor
    positive: list
    negative: list

    def with_mask_inverted(self) -> "Example":
        """The same, but the start image's mask says known where it is unknown."""
        mask = 1.0 - self.positive[0][1]["concat_mask"]
        return replace(self, positive=node_helpers.conditioning_set_values(self.positive, {"concat_mask": mask}))

    def without_mask(self) -> "Example":
        """The same, but nothing says that the start image is known."""
        (words, told), *others = self.positive
        return replace(self, positive=[[words, {k: v for k, v in told.items() if k != "concat_mask"}], *others])


class Family:
    """The toy family in `models_dir`, loaded by ComfyUI."""

    def __init__(self, models_dir: Path) -> None:
        self._models = Path(models_dir)
        encoder = self._models / "text_encoders/toy_umt5.safetensors"
        options = {"umt5xxl_model_config": text_encoder_config(encoder)}
        self.clip = comfy.sd.load_clip([str(encoder)], clip_type=comfy.sd.CLIPType.WAN, model_options=options)
        self.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(self._models / "vae/toy_wan_2.1_vae.safetensors")))

    def pair(self, suffix: str = "") -> Pair:
        """The I2V pair, or its merged 4-step edition with suffix "_4step"."""
        paths = (
            self._models / f"diffusion_models/toy_wan2.2_i2v_{e}_noise{suffix}.safetensors" for e in ("high", "low")
        )
        high, low = (comfy.sd.load_diffusion_model(str(path)) for path in paths)
        return Pair(high, low)

    def with_lora(self, pair: Pair) -> Pair:
        """The pair with the 4-step LoRA pair applied, as Apply LoRA Pair does it."""
        models = []
        for model, slot in ((pair.high, "high_noise"), (pair.low, "low_noise")):
            path = self._models / f"loras/toy_wan2.2_i2v_{slot}_4step_lora.safetensors"
            models.append(apply_lora(model, read_lora(path), 1.0, slot)[0])
        return Pair(*models)

    @torch.inference_mode()
    def example(self, move: str, seeds: Sequence[int], num_frames: int, height: int, width: int) -> Example:
        """Held-out clips number `seeds` under `move`, asked for in a sentence, as the pack conditions an I2V pair on a
        first frame."""
        clips = [data.make_clip(data.HELD_OUT_SEED + s, num_frames, height, width, (move,)) for s in seeds]
        frames = torch.stack([clip.frames for clip in clips]).permute(0, 1, 3, 4, 2).contiguous()
        latents = torch.cat([self.vae.encode(clip) for clip in frames])
        sentence = captions.caption(move, random.Random(seeds[0]))
        words, empty = (self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)) for text in (sentence, ""))
        kind, size = recognise_wan_vae(self.vae), Clip(width, height, num_frames, batch_size=1, fit="crop")
        told = [condition_on_images(words, empty, self.vae, kind, KnownFrames(clip[:1]), size) for clip in frames]
        positive, negative = (_one_batch([conditioning[side] for conditioning in told]) for side in (0, 1))
        return Example(move, frames, latents, positive, negative)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Frames [clips, frames, height, width, 3] in [0, 1]."""
        return torch.cat([self.vae.decode(clip[None]) for clip in latents]).clamp(0, 1)


def _one_batch(conditionings: list[list]) -> list:
    """Clips that share all but their image, as one conditioning."""
    images = torch.cat([conditioning[0][1]["concat_latent_image"] for conditioning in conditionings])
    return node_helpers.conditioning_set_values(conditionings[0], {"concat_latent_image": images})


@torch.inference_mode()
def denoising_loss(pair: Pair, example: Example, seed: int = 0, sigmas: Sequence[float] = LOSS_SIGMAS) -> float:
    """Mean squared velocity error at `sigmas`, each answered by the expert that the relay chooses for it."""
    clean = pair.high.model.process_latent_in(example.latents)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    losses: list[float] = []

    def ask_at_each(model, x, sigmas, extra_args=None, **_):
        for sigma in sigmas[:-1]:
            noisy = (1 - sigma) * clean + sigma * noise
            predicted = model(noisy, sigma * noisy.new_ones([len(noisy)]), **(extra_args or {}))
            losses.append(((predicted - clean) / sigma).pow(2).mean().item())
        return x

    schedule = torch.tensor([*sigmas, 0.0])
    guider = make_guider(
        pair.high, pair.low, example.positive, example.negative, 1.0, 1.0, "boundary", pair.boundary, 0, SHIFT
    )
    guider.sample(noise, example.latents, comfy.samplers.KSAMPLER(ask_at_each), schedule, disable_pbar=True, seed=seed)
    return sum(losses) / len(losses)


@torch.inference_mode()
def generate(pair: Pair, example: Example, steps: int, cfg: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Latents made as Sample makes them, with Euler, scheduler simple and shift 5, one for each clip."""
    settings = RelaySettings(
        seed=seed,
        steps=steps,
        high_noise_cfg=cfg,
        low_noise_cfg=cfg,
        sampler="euler",
        scheduler="simple",
        shift=SHIFT,
        switch="boundary",
        boundary=pair.boundary,
        switch_step=0,
        denoise=1.0,
    )
    empty = {"samples": torch.zeros_like(example.latents)}
    latent, _ = run_relay(pair.high, pair.low, example.positive, example.negative, empty, settings)
    return latent["samples"]


def psnr(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """Peak signal to noise ratio in dB of pictures in [0, 1]."""
    return -10 * torch.log10((made - wanted).pow(2).mean()).item()


@dataclass(frozen=True)
class Motion:
    """How a clip's picture moves: pixels a frame to the right and down, growth and clockwise radians a frame."""

    x: float
    y: float
    growth: float
    turn: float
    radius: float  # pixels: how far from the middle the picture is, root mean square
    part: tuple[float, float]  # pixels a frame of what moves on its own, where little of the picture moves


def motion(frames: torch.Tensor, stride: int = 4) -> Motion:
    """By Farneback's optical flow between frames `stride` apart; the camera's over the picture's inner two thirds.

    `frames` is [frames, height, width, 3] in [0, 1]. Needs OpenCV.
    """
    import cv2

    grey = [cv2.cvtColor((frame.numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in frames[::stride]]
    flows = np.stack(
        [cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 21, 3, 7, 1.5, 0) / stride for a, b in pairwise(grey)]
    )
    height, width = grey[0].shape
    rows, columns = slice(height // 6, -(height // 6)), slice(width // 6, -(width // 6))
    y, x = (places - places.mean() for places in np.mgrid[:height, :width].astype(float))
    inner_x, inner_y, inner = x[rows, columns], y[rows, columns], flows[:, rows, columns]
    axes, around = (1, 2), (inner_x**2 + inner_y**2).sum()
    across, down = inner[..., 0], inner[..., 1]
    growths = (across * inner_x + down * inner_y).sum(axes) / around
    turns = (down * inner_x - across * inner_y).sum(axes) / around
    right, low, growth, turn = (np.median(value) for value in (across.mean(axes), down.mean(axes), growths, turns))
    by_camera = np.stack([right + growth * x - turn * y, low + growth * y + turn * x], axis=-1)
    radius = np.sqrt((inner_x**2 + inner_y**2).mean())
    return Motion(*map(float, (right, low, growth, turn, radius)), part=_part_motion(flows, by_camera))


def _part_motion(flows: np.ndarray, by_camera: np.ndarray) -> tuple[float, float]:
    """The mean flow, right and down, of what moves on its own and together, while most rests; else (0, 0)."""
    speeds, fast = np.linalg.norm(flows, axis=-1), np.linalg.norm(flows - by_camera, axis=-1) > PART_SPEED
    if np.median(speeds) >= REST_SPEED or fast.mean() <= PART_SHARE:
        return 0.0, 0.0
    right, low = map(float, flows[fast].mean(axis=0))
    together = math.hypot(right, low) > PART_TOGETHER * speeds[fast].mean()
    return (right, low) if together else (0.0, 0.0)


def seen_move(frames: torch.Tensor) -> str:
    """The move of captions.MOVES that `frames` look most like: what explains most of the flow, unless all is slow."""
    seen = motion(frames)
    if any(seen.part):
        return f"ball {_way(*seen.part)}"
    growth, turn = seen.growth / (data.ZOOM_PER_FRAME - 1), seen.turn / math.radians(data.DEGREES_PER_FRAME)
    if max(abs(seen.x), abs(seen.y), abs(growth), abs(turn)) < STILL_BELOW:
        return "still"
    pan, zoom, roll = math.hypot(seen.x, seen.y), abs(seen.growth) * seen.radius, abs(seen.turn) * seen.radius
    if pan > max(zoom, roll):
        return f"pan {_way(-seen.x, -seen.y)}"
    if zoom > roll:
        return "zoom in" if growth > 0 else "zoom out"
    return "rotate left" if turn > 0 else "rotate right"


def _way(x: float, y: float) -> str:
    if abs(x) > abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"
