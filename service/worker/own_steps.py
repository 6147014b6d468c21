"""What a workflow does by itself between VAE Decode and Save Video: it upscales, it interpolates.

That becomes the fields of a request that say the same, and its nodes are taken out where a request has such a field:
any workflow is then told in one way whether and how it does these steps, and none does one twice.
"""

from typing import Any, TypeVar

from ..contract.errors import JobError
from ..contract.video_request import VideoRequest
from .graph_nodes import Graph, is_link, nodes_of
from .interpolation import INTERPOLATE
from .interpolation import MODEL_LOADER as INTERPOLATION_LOADER
from .upscaling import MODEL_LOADER as UPSCALE_LOADER
from .upscaling import UPSCALE

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
            link = node["inputs"].get("model")
            own["interpolation"] = "rife" if link and "rife" in graph[link[0]]["inputs"]["model_name"] else "film"
            own["interpolation_factor"] = node["inputs"]["factor"]
    new = {name: value for name, value in own.items() if name not in request.model_fields_set}
    return request.model_copy(update=new) if new else request


def take_out_steps(graph: Graph, request: VideoRequest) -> None:
    """Takes out the steps of a workflow that the request speaks of.

    Raises JobError for a workflow that does one of them more than once, and LookupError where a node uses an output
    that nothing stands for then, such as the larger width.
    """
    for field, (class_type, passed) in STEPS.items():
        if field not in request.model_fields_set:
            continue
        found = nodes_of(graph, class_type)
        if len(found) > 1:
            sentence = f"{field} needs a workflow with at most one node {class_type}, and this one has {len(found)}"
            raise JobError("CONFLICT", sentence, field)
        for key in found:
            _take_out(graph, key, passed)


def _take_out(graph: Graph, key: str, passed: tuple[str, ...]) -> None:
    """Also its model's loader, where no other node has the model."""
    step = graph.pop(key)["inputs"]
    for node in graph.values():
        for name, (source, slot) in _links(node["inputs"]).items():
            if source == key:
                node["inputs"][name] = step[passed[slot]]
    linked = {source for node in graph.values() for source, _ in _links(node["inputs"]).values()}
    for source, _ in _links(step).values():
        is_loader = source in graph and graph[source]["class_type"] in (UPSCALE_LOADER, INTERPOLATION_LOADER)
        if is_loader and source not in linked:
            del graph[source]


def _links(inputs: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """By the input's name: the node that it is linked to, and which of its outputs."""
    return {name: (value[0], value[1]) for name, value in inputs.items() if is_link(value)}
