"""Frames in between, put into a workflow: between what decodes the frames and what saves them."""

from typing import Any, NamedTuple

from ..contract.video_request import VideoRequest
from .graph_nodes import Graph

INTERPOLATE = "WanRelay_InterpolateFrames"
MODEL_LOADER = "FrameInterpolationModelLoader"  # core's
NODE_ID = "wan_relay_interpolation"
LOADER_ID = "wan_relay_interpolation_model"
FPS_OUTPUT = 1  # of Interpolate Frames
MINTERPOLATE = "minterpolate"


class InterpolationModel(NamedTuple):
    """A file in ComfyUI's `frame_interpolation` folders, and which network it is for: `film` or `rife`."""

    name: str
    network: str


def add_interpolation(
    graph: Graph, save: str, request: VideoRequest, model: InterpolationModel | None = None
) -> list[str]:
    """Put the frames in front of the node `save` through Interpolate Frames; the warnings that this calls for.

    Without a model the node has FFmpeg make the frames.
    """
    if not request.is_interpolated:
        return []
    saved = graph[save]["inputs"]
    graph[NODE_ID] = {
        "class_type": INTERPOLATE,
        "_meta": {"title": "Interpolate Frames"},
        "inputs": {
            "images": saved["images"],
            "factor": request.interpolation_factor,
            "fps": saved["fps"],
            "videos": saved.get("videos", 1),
        },
    }
    saved["images"] = [NODE_ID, 0]
    if not request.slow_motion:
        saved["fps"] = [NODE_ID, FPS_OUTPUT]
    if model is None:
        return [
            f"interpolation: this worker has no model file for {request.interpolation}; "
            "FFmpeg's minterpolate made the frames in between"
        ]
    graph[LOADER_ID] = {
        "class_type": MODEL_LOADER,
        "_meta": {"title": "Interpolation model"},
        "inputs": {"model_name": model.name},
    }
    graph[NODE_ID]["inputs"]["model"] = [LOADER_ID, 0]
    if model.network != request.interpolation:
        return [f"interpolation: this worker has no model file for {request.interpolation}; {model.name} was used"]
    return []


def interpolation_used(graph: Graph) -> dict[str, Any]:
    """The answer's values: which file, or what in its place, and the factor; nothing where nothing was interpolated."""
    if NODE_ID not in graph:
        return {}
    model = graph[LOADER_ID]["inputs"]["model_name"] if LOADER_ID in graph else MINTERPOLATE
    return {"interpolation": model, "interpolation_factor": graph[NODE_ID]["inputs"]["factor"]}
