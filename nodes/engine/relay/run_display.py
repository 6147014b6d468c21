"""What a user sees while the relay runs: one progress bar, the whole clip playing in the node, and one line of text.

ComfyUI previews the first latent frame only, which for image-to-video is the start image. Here every latent frame of
the current prediction becomes a small picture (ComfyUI's own linear latent-to-RGB factors), and ComfyUI's server shows
them one after another, as ordinary previews, until the next step brings new ones.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import sys
import time
from typing import Any

import comfy.cli_args
import comfy.model_management
import comfy.utils
import torch
from comfy_api import feature_flags
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import ExecutionContext, get_executing_context
from PIL import Image

PREVIEW_FPS = 6
"""Latent frames a second: a latent frame is four frames of a 16 fps video, so 4 would be real time."""

PREVIEW_SIZE = 320
"""The longer side of a preview in pixels, unless ComfyUI's own limit is lower."""

PREVIEW_SHARE = 0.02
"""The share of the sampling time that making the pictures may take, and the share of the server's for sending them."""


def prompt_server() -> Any | None:
    """ComfyUI's server, or None where nodes run without one (tests, scripts)."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def watcher(server: Any | None) -> str | None:
    """The client that started the running prompt, if it is still connected."""
    if server is None or server.client_id not in server.sockets:
        return None
    return server.client_id


def show_text(text: str) -> None:
    """Shows `text` on the node that is running, if somebody looks at it."""
    server, context = prompt_server(), get_executing_context()
    client = watcher(server)
    if server is not None and context is not None and client is not None:
        server.send_progress_text(text, context.node_id, client)


def clip_frames(denoised: torch.Tensor, latent_format: Any) -> list[Image.Image]:
    """Every latent frame of the first video of a batch, as a picture of the latent's size.

    denoised: (batch, channels, frames, height, width) as the sampler has it. Empty for a format without RGB factors.
    """
    if getattr(denoised, "is_nested", False):
        denoised = denoised.unbind()[0]
    factors = latent_format.latent_rgb_factors
    if factors is None or denoised.ndim != 5 or denoised.shape[1] != len(factors):
        return []
    weight = torch.tensor(factors, dtype=denoised.dtype, device=denoised.device).T
    bias = latent_format.latent_rgb_factors_bias
    if bias is not None:
        bias = torch.tensor(bias, dtype=denoised.dtype, device=denoised.device)
    rgb = torch.nn.functional.linear(denoised[0].movedim(0, -1), weight, bias)
    pixels = ((rgb + 1.0) * 127.5).nan_to_num(0.0).clamp(0.0, 255.0).to(torch.uint8).cpu().numpy()
    return [Image.fromarray(frame) for frame in pixels]


class ClipPlayer:
    """Plays frames on a node, in ComfyUI's server loop, until it is stopped."""

    def __init__(self, server: Any, client: str, context: ExecutionContext):
        self.server, self.client, self.context = server, client, context
        self.frames: list[Image.Image] = []
        self.playing: concurrent.futures.Future | None = None

    def show(self, frames: list[Image.Image]) -> None:
        """Plays `frames` instead of the ones before."""
        self.frames = frames
        if self.playing is None:
            self.playing = asyncio.run_coroutine_threadsafe(self._play(), self.server.loop)

    def stop(self) -> None:
        """Ends the playing; nothing is sent after what the caller sends next."""
        if self.playing is not None:
            self.playing.cancel()

    async def _play(self) -> None:
        for index in itertools.count():
            if self.client not in self.server.sockets:
                return
            frames, before = self.frames, time.perf_counter()
            await self._send(frames[index % len(frames)])
            await asyncio.sleep(max(1 / PREVIEW_FPS, (time.perf_counter() - before) / PREVIEW_SHARE))

    async def _send(self, frame: Image.Image) -> None:
        image = ("JPEG", frame, min(PREVIEW_SIZE, comfy.cli_args.args.preview_size))
        if not feature_flags.supports_feature(self.server.sockets_metadata, self.client, "supports_preview_metadata"):
            await self.server.send_image(image, sid=self.client)
            return
        node_id, prompt = self.context.node_id, get_progress_state().dynprompt
        metadata = {
            "node_id": node_id,
            "prompt_id": self.context.prompt_id,
            "display_node_id": prompt.get_display_node_id(node_id),
            "parent_node_id": prompt.get_parent_node_id(node_id),
            "real_node_id": prompt.get_real_node_id(node_id),
        }
        await self.server.send_image_with_metadata(image, metadata, sid=self.client)


class RunDisplay:
    """The progress bar and the preview of one run; use it as a context manager around the run."""

    def __init__(self, steps: int, latent_format: Any):
        self.latent_format = latent_format
        self.bar = comfy.utils.ProgressBar(max(steps, 1))
        self.started, self.spent = time.perf_counter(), 0.0
        self.player: ClipPlayer | None = None
        server, context = prompt_server(), get_executing_context()
        client = watcher(server)
        wanted = comfy.cli_args.args.preview_method != comfy.cli_args.LatentPreviewMethod.NoPreviews
        if wanted and client is not None and context is not None:
            self.player = ClipPlayer(server, client, context)

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.player is not None:
            self.player.stop()

    def on_step(self, step: int, denoised: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        """The sampler's callback: moves the bar, and shows the clip when there is time for it."""
        if self.player is not None and self.spent <= PREVIEW_SHARE * (time.perf_counter() - self.started):
            comfy.model_management.synchronize()  # else the step's own computing would count as the preview's
            before = time.perf_counter()
            frames = clip_frames(denoised, self.latent_format)
            if frames:
                self.player.show(frames)
            self.spent += time.perf_counter() - before
        self.bar.update_absolute(step + 1, total_steps)
