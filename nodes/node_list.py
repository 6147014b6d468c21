"""The nodes of the pack, in the order in which they are registered."""

from comfy_api.latest import io

from .add_segment import AddSegment
from .apply_lora_pair import ApplyLoraPair
from .apply_nag import ApplyNag
from .encode_prompts import EncodePrompts
from .guider import Guider
from .interpolate_frames import InterpolateFrames
from .join_clips import JoinClips
from .keyframe import KeyframeNode
from .load_experts import LoadExperts
from .long_video import LongVideo
from .opening_leg import OpeningLegNode
from .prepare_latent import PrepareLatent
from .sample import Sample
from .save_video import SaveVideo
from .schedule import Schedule
from .select_solver import SelectSolver
from .upscale_frames import UpscaleFrames

NODES: list[type[io.ComfyNode]] = [
    LoadExperts,
    ApplyLoraPair,
    EncodePrompts,
    KeyframeNode,
    PrepareLatent,
    ApplyNag,
    OpeningLegNode,
    Sample,
    Guider,
    Schedule,
    SelectSolver,
    LongVideo,
    AddSegment,
    JoinClips,
    UpscaleFrames,
    InterpolateFrames,
    SaveVideo,
]
