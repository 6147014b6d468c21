"""Larger frames, put into a workflow between what decodes the frames and what saves or interpolates them."""

from typing import Any

from ..contract.video_request import VideoRequest
from .graph_nodes import Graph

UPSCALE = "WanRelay_UpscaleFrames"
MODEL_LOADER = "UpscaleModelLoader"  # core's
NODE_ID = "wan_relay_upscaling"
LOADER_ID = "wan_relay_upscale_model"


def add_upscaling(graph: Graph, save: str, request: VideoRequest) -> None:
    """Put the frames in front of the node `save` through Upscale Frames."""
    if not request.is_upscaled:
        return
    saved = graph[save]["inputs"]
    graph[LOADER_ID] = {
        "class_type": MODEL_LOADER,
        "_meta": {"title": "Upscale model"},
        "inputs": {"model_name": request.upscale_model},
    }
    graph[NODE_ID] = {
        "class_type": UPSCALE,
        "_meta": {"title": "Upscale Frames"},
        "inputs": {
            "images": saved["images"],
            "upscale_model": [LOADER_ID, 0],
            "factor": request.upscale_factor,
        },
    }
    saved["images"] = [NODE_ID, 0]


def upscaling_used(graph: Graph) -> dict[str, Any]:
    """The answer's values; nothing where nothing was upscaled."""
    if NODE_ID not in graph:
        return {}
    return {
        "upscale_model": graph[LOADER_ID]["inputs"]["model_name"],
        "upscale_factor": graph[NODE_ID]["inputs"]["factor"],
    }
