"""The nodes of the pack, in the order in which they are registered."""

from comfy_api.latest import io

from .encode_prompts import EncodePrompts
from .prepare_latent import PrepareLatent
from .save_video import SaveVideo

NODES: list[type[io.ComfyNode]] = [
    EncodePrompts,
    PrepareLatent,
    SaveVideo,
]
