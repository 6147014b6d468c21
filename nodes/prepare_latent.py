"""Node: size, frame count and the frames that are known -> latent and conditioning."""

from itertools import chain
from typing import TypedDict

import comfy.sd
import torch
from comfy_api.latest import io

from .engine.frames.clip_images import ClipImages, Keyframe
from .engine.frames.image_conditioning import condition_on_images, latent_with_start
from .engine.frames.known_frames import Clip
from .engine.frames.wan_vae import recognise_wan_vae
from .frame_inputs import known_frame_inputs
from .rules.frames.frame_count import plan_length
from .rules.frames.frame_size import CROP_POSITIONS, FITS, SIZINGS, plan_size
from .rules.frames.timeline import DEFAULT_OVERLAP, LOOP_SHOWN_TWICE, Span, plan_frames


class LatentReport(TypedDict):
    """Pixels and frames as they are used, what fits the image, and everything that was changed, in sentences."""

    image_width: int | None
    image_height: int | None
    width: int
    height: int
    fit: str
    sizing: str
    length: int
    duration_s: float
    batch_size: int
    timeline: list[Span]
    warnings: list[str]
    found: list[str]  # those of the warnings that no panel could say before the run


class PrepareLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_PrepareLatent",
            display_name="Wan Relay: Prepare Latent",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            description=(
                "The empty video, and what the model is told about it: start image, end image, the clip before, images "
                "at frame numbers, or nothing (text to video). Sizes and frame counts are brought to what Wan2.2 can "
                "do, and each change is said."
            ),
            search_aliases=["wan image to video", "first last frame", "i2v", "flf2v", "t2v", "ti2v 5b", "empty latent"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="What the video should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show; without effect at cfg 1."),
                io.Vae.Input("vae", tooltip="wan_2.1_vae for the A14B experts, wan2.2_vae for TI2V-5B."),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="The first frame, in any size. Several images are the first several frames, in order.",
                ),
                io.Image.Input(
                    "end_image",
                    optional=True,
                    tooltip="The last frame (A14B only). Works without a start image. Several images are the last "
                    "several frames, in order.",
                ),
                io.Combo.Input(
                    "sizing",
                    options=list(SIZINGS),
                    default="match image",
                    tooltip="fixed: width and height, each at its nearest multiple of 16 (32 for TI2V-5B). "
                    "match image: the start image's aspect (the end image's without one), with width x height as the "
                    "number of pixels to spend; without any image as fixed.",
                ),
                io.Int.Input("width", default=528, min=16, max=8192, step=16, tooltip="Width of the video in pixels."),
                io.Int.Input(
                    "height", default=768, min=16, max=8192, step=16, tooltip="Height of the video in pixels."
                ),
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default="crop",
                    tooltip="How an image of another aspect fills the frame. crop: a part of it, see crop_position. "
                    "pad: whole, with black bars. stretch: whole, distorted.",
                ),
                io.Int.Input(
                    "length",
                    default=81,
                    min=1,
                    max=1025,
                    step=4,
                    tooltip="Frames, brought to the nearest 4n+1; 81 are 5 seconds at 16 fps.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=16,
                    tooltip="Videos made at once, each from its own noise. VAE Decode puts them one after the other.",
                ),
                *known_frame_inputs(),
                io.Combo.Input(
                    "crop_position",
                    options=list(CROP_POSITIONS),
                    default="center",
                    optional=True,
                    advanced=True,
                    tooltip="Which part of the image stays where fit is crop: its middle, or the part at one edge.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The positive prompt with the known frames."),
                io.Conditioning.Output("negative", tooltip="The negative prompt with the known frames."),
                io.Latent.Output("latent", tooltip="The empty video, for Wan Relay: Sample."),
                io.Int.Output("width", tooltip="The width that is used, in pixels."),
                io.Int.Output("height", tooltip="The height that is used, in pixels."),
                io.Int.Output("length", tooltip="The number of frames that is made."),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        vae: comfy.sd.VAE,
        sizing: str,
        width: int,
        height: int,
        fit: str,
        length: int,
        batch_size: int,
        start_image: torch.Tensor | None = None,
        end_image: torch.Tensor | None = None,
        previous: torch.Tensor | None = None,
        overlap: int = DEFAULT_OVERLAP,
        anchor: torch.Tensor | None = None,
        padding: str = "grey",
        keyframes: tuple[Keyframe, ...] | None = None,
        loop: bool = False,
        previous_latent: dict | None = None,
        crop_position: str = "center",
    ) -> io.NodeOutput:
        kind = recognise_wan_vae(vae)
        images = {"start_image": start_image, "end_image": end_image, "previous": previous, "anchor": anchor}
        settings = {"overlap": overlap, "padding": padding, "loop": loop}
        # found: what no panel could tell before
        given, found = ClipImages.checked(images, previous_latent, keyframes or (), **settings)
        count = plan_length(length)
        frames = plan_frames(given.given, count["length"], kind.is_5b)
        known = given.placed(frames)
        size = plan_size(width, height, sizing, known.image_size, kind.multiple)
        clip = Clip(size["width"], size["height"], count["length"], batch_size, fit, crop_position)
        image_width, image_height = known.image_size or (None, None)
        known, said = known.within(clip.length)
        fits = list(known.fit_changes(clip).values())  # the first of them is in the panel
        foretold = [*size["warnings"], *count["warnings"], *chain(*fits[:1]), *frames.warnings]
        if loop:
            foretold.append(LOOP_SHOWN_TWICE)
        found += [*said, *chain(*fits[1:])]
        if batch_size > 1:
            found.append(
                f"batch_size {batch_size}: VAE Decode puts the {batch_size} videos one after the other, and Save Video "
                f"writes a file for each where its videos is {batch_size}."
            )
        if kind.is_5b:
            latent, said = latent_with_start(vae, kind, known, clip)
            found += said
        else:
            positive, negative, latent = condition_on_images(positive, negative, vae, kind, known, clip)

        report: LatentReport = {
            "image_width": image_width,
            "image_height": image_height,
            "width": clip.width,
            "height": clip.height,
            "fit": fit,
            "sizing": sizing,
            "length": clip.length,
            "duration_s": count["duration_s"],
            "batch_size": batch_size,
            "timeline": frames.spans,
            "warnings": foretold + found,
            "found": found,
        }
        outputs = (positive, negative, latent, clip.width, clip.height, clip.length)
        return io.NodeOutput(*outputs, ui={"wan_relay": [report]})
