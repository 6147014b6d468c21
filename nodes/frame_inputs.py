"""The inputs of Prepare Latent that go beyond a start and an end image, the link that keyframes travel on, and the
input of nodes that must know where a video ends.
"""

from comfy_api.latest import io

from .rules.frames.batch_videos import MAX_VIDEOS
from .rules.frames.timeline import DEFAULT_OVERLAP, PADDINGS

Keyframes = io.Custom("WAN_RELAY_KEYFRAMES")
"""The link between Keyframe and Prepare Latent: a tuple of engine.frames.clip_images.Keyframe."""


def known_frame_inputs() -> list[io.Input]:
    return [
        io.Image.Input(
            "previous",
            optional=True,
            tooltip="The frames of the clip before. Its last ones are the first ones here, as many as overlap says.",
        ),
        io.Int.Input(
            "overlap",
            default=DEFAULT_OVERLAP,
            min=1,
            max=1021,
            step=4,
            optional=True,
            advanced=True,
            tooltip="Frames that are taken from previous, brought to the nearest 4n+1. 1 is what Wan2.2 learned; 5 and "
            "more hand over the motion too, for SVI LoRAs. Behind an anchor there are 5 or more.",
        ),
        io.Image.Input(
            "anchor",
            optional=True,
            tooltip="The picture that the clip keeps to (A14B only). It is the first latent frame, and the clip before "
            "goes on behind it, as SVI 2.0 Pro LoRAs need it; with padding reference it fills the unknown frames.",
        ),
        io.Combo.Input(
            "padding",
            options=list(PADDINGS),
            default="grey",
            optional=True,
            advanced=True,
            tooltip="What the model is told of unknown frames. grey: what Wan2.2 was trained with. zero: nothing, for "
            "SVI 2.0 Pro LoRAs. reference: the anchor, without one the start image.",
        ),
        Keyframes.Input(
            "keyframes",
            optional=True,
            tooltip="Wan Relay: Keyframe, one or a chain: images at frame numbers (A14B only).",
        ),
        io.Boolean.Input(
            "loop",
            default=False,
            optional=True,
            advanced=True,
            tooltip="The start image is the last frame too (A14B only). Switch on drop_last_frame in Save Video.",
        ),
        io.Latent.Input(
            "previous_latent",
            optional=True,
            tooltip="The latent of the clip before, in place of previous, where there is an anchor: nothing is lost "
            "by decoding and encoding.",
        ),
    ]


def videos_input(of_each: str) -> io.Input:
    """`of_each` says what the node does with each video."""
    return io.Int.Input(
        "videos",
        default=1,
        min=1,
        max=MAX_VIDEOS,
        optional=True,
        advanced=True,
        tooltip=f"How many videos the frames are, one after the other: the batch_size of Prepare Latent. {of_each}",
    )
