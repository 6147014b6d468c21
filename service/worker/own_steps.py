"""What a workflow does by itself between VAE Decode and Save Video: it upscales, it interpolates.

That becomes the fields of a request that say the same, and its nodes are taken out where a request has such a field:
any workflow is then told in one way whether and how it does these steps, and none does one twice.
"""

from typing import Any, TypeVar

from ..contract.errors import JobError
from ..contract.video_request import VideoRequest
from .interpolation import INTERPOLATE
from .interpolation import MODEL_LOADER as INTERPOLATION_LOADER
from .upscaling import MODEL_LOADER as UPSCALE_LOADER
from .upscaling import UPSCALE

Graph = dict[str, dict[str, Any]]
Request = TypeVar("Request", bound=VideoRequest)

# the field that speaks of a step -> its node, and the inputs that its outputs are where it is left out
STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "upscale_factor": (UPSCALE, ("images",)),
    "interpolation": (INTERPOLATE, ("images", "fps")),
}


def with_own_steps(request: Request, graph: Graph) -> Request:
    """The request with the steps of its bundled workflow as fields, where it does not say otherwise itself."""
    own: dict[str, Any] = {}
    for node in graph.values():
        if node["class_type"] == UPSCALE:
            own["upscale_factor"] = node["inputs"]["factor"]
        elif node["class_type"] == INTERPOLATE:
            model = graph[node["inputs"]["model"][0]]["inputs"]["model_name"]
            own["interpolation"] = "rife" if "rife" in model else "film"
            own["interpolation_factor"] = node["inputs"]["factor"]
    new = {name: value for name, value in own.items() if name not in request.model_fields_set}
    return request.model_copy(update=new) if new else request


def take_out_steps(graph: Graph, request: VideoRequest) -> None:
    """Takes out the steps of a workflow that the request speaks of.

    Raises JobError for a workflow that does one of them more than once, and LookupError where a node uses an output
    that nothing stands for then, such as the larger width.
    """
    for field in STEPS.keys() & request.model_fields_set:
        class_type, passed = STEPS[field]
        found = [key for key, node in graph.items() if node["class_type"] == class_type]
        if len(found) > 1:
            sentence = f"{field} needs a workflow with at most one node {class_type}, and this one has {len(found)}"
            raise JobError("CONFLICT", sentence, field)
        for key in found:
            _take_out(graph, key, passed)


def _take_out(graph: Graph, key: str, passed: tuple[str, ...]) -> None:
    step = graph.pop(key)["inputs"]
    for node in graph.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == key:
                node["inputs"][name] = step[passed[value[1]]]
    linked = {value[0] for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)}
    for value in step.values():
        loader = value[0] if isinstance(value, list) and value[0] not in linked else None
        if loader in graph and graph[loader]["class_type"] in (UPSCALE_LOADER, INTERPOLATION_LOADER):
            del graph[loader]
