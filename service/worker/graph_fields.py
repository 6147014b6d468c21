"""The fields of a video request in a client's own workflow: by the names that bundled workflows have them under.

A workflow that is built as the bundled ones are (one node each of Wan Relay's, with plain values) takes every field as
they do. Any other takes a field whose node it has once, and says which fields filled nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..contract.errors import JobError
from ..contract.graph_request import GraphFields
from ..contract.video_request import draw_seed
from .exported_graph import title_of
from .graph_nodes import Graph, nodes_of
from .interpolation import FPS_OUTPUT, INTERPOLATE, InterpolationModel
from .long_video import LONG_VIDEO, clear_lists
from .lora_rows import LORAS
from .settings import Settings
from .workflow import (
    ENCODE,
    FIELD_INPUTS,
    LOAD,
    NAG,
    OPENING,
    PREPARE,
    SAMPLE,
    SAVE,
    Plan,
    fill_plan,
    use_model_files,
)

# Fields that say how the job is done, and are no node's.
OF_THE_JOB = {"images", "workflow", "delivery", "shrink", "strict", "return_last_frame"}
IMAGES = {"start_image": "Start image", "end_image": "End image"}
_ONCE = (ENCODE, PREPARE, LOAD, SAMPLE, SAVE)
_AT_MOST_ONCE = (OPENING, NAG, LORAS)
# What the bundled workflows' rules read, and compute with.
_NUMBER = (int, float)
_PLAIN: dict[str, dict[str, type | tuple[type, ...]]] = {
    LOAD: {"low_noise": str},
    PREPARE: {"width": int, "height": int, "length": int, "sizing": str, "fit": str},
    SAMPLE: {
        "seed": (int, list),
        "steps": int,
        "switch": str,
        "switch_step": int,
        "high_noise_cfg": _NUMBER,
        "low_noise_cfg": _NUMBER,
    },
    SAVE: {"fps": (*_NUMBER, list), "filename_prefix": str},
    OPENING: {"steps": int, "cfg": _NUMBER},
    NAG: {"scale": _NUMBER},
    LONG_VIDEO: {"segment_length": int, "lengths": str},
}


def is_like_ours(graph: Graph) -> bool:
    """Whether every rule of the bundled workflows holds for this one."""
    if any(len(nodes_of(graph, each)) != 1 for each in _ONCE) or any(
        len(nodes_of(graph, each)) > 1 for each in _AT_MOST_ONCE
    ):
        return False
    are_plain = all(
        isinstance(node["inputs"].get(name), kind)
        for node in graph.values()
        for name, kind in _PLAIN.get(node["class_type"], {}).items()
    )
    return are_plain and _has_plain_fps(graph)


def _has_plain_fps(graph: Graph) -> bool:
    """Whether the frame rate is a number at Save Video, or at the Interpolate Frames that gives it to Save Video."""
    save = nodes_of(graph, SAVE)[0]
    if not isinstance(graph[save]["inputs"]["fps"], list):
        return True
    source = _source_of_fps(graph, save)
    inputs = graph[source]["inputs"] if source else {}
    return isinstance(inputs.get("fps"), _NUMBER) and isinstance(inputs.get("factor"), int)


def _source_of_fps(graph: Graph, save: str) -> str | None:
    """The Interpolate Frames that Save Video has its frame rate from."""
    fps = graph[save]["inputs"].get("fps")
    if not isinstance(fps, list) or fps[1:] != [FPS_OUTPUT] or not isinstance(fps[0], str):
        return None
    return fps[0] if graph.get(fps[0], {}).get("class_type") == INTERPOLATE else None


def fill_graph(
    plan: Plan,
    fields: GraphFields,
    images: Mapping[str, str],
    settings: Settings,
    interpolation_model: InterpolationModel | None = None,
) -> bool:
    """Whether the graph was like ours. `images` are names in ComfyUI's input folder, by "start_image" and "end_image".

    Adds to the plan's warnings. Raises JobError: for a value that the rules refuse, a size over the budget, and, where
    the request is strict, for a field that fills nothing.
    """
    unused = [name for name, file in images.items() if not _set_image(plan.graph, name, file)]
    is_ours = is_like_ours(plan.graph)
    if is_ours:
        seed = draw_seed(fields) if "seed" in fields.model_fields_set else plan.value(SAMPLE, "seed")
        prefix = plan.value(SAVE, "filename_prefix")
        family = {"workflow": "wan22_ti2v_5b"} if plan.value(LOAD, "low_noise") == "none" else {}
        try:
            fill_plan(plan, fields.model_copy(update=family), seed, prefix, settings, interpolation_model)
        except (LookupError, TypeError, ValueError):
            raise JobError(
                "CONFLICT", "the fields do not fit this workflow, whose nodes are linked otherwise"
            ) from None
    else:
        use_model_files(plan.graph, settings)
        unused += _fill_one_by_one(plan.graph, fields)
        _check_sizes(plan.graph, settings.max_video_pixels)
    if unused and fields.strict:
        raise JobError("UNKNOWN_FIELD", f"{unused[0]} fills no node of this workflow", unused[0])
    plan.warnings += [f"{name} fills no node of this workflow, so it was ignored" for name in unused]
    return is_ours


def _fill_one_by_one(graph: Graph, fields: GraphFields) -> list[str]:
    """Returns the fields that fill nothing."""
    unused = []
    are_images = {name for name in fields.model_fields_set if "image" in name}
    for name in sorted(fields.model_fields_set - OF_THE_JOB - are_images):
        targets = _targets(graph, name)
        for node_id, input_name in targets:
            graph[node_id]["inputs"][input_name] = draw_seed(fields) if name == "seed" else getattr(fields, name)
        if targets:
            clear_lists(graph, {name})
        else:
            unused.append(name)
    return unused


def _targets(graph: Graph, name: str) -> Sequence[tuple[str, str]]:
    """Node ids and input names; none where the node is missing, or there are several."""
    if name == "cfg":
        return [*_targets(graph, "high_noise_cfg"), *_targets(graph, "low_noise_cfg")]
    class_type, input_name = FIELD_INPUTS.get(name, ("", ""))
    found = nodes_of(graph, class_type)
    if name == "fps" and len(found) == 1:
        found = [_source_of_fps(graph, found[0]) or found[0]]
    return [(found[0], input_name)] if len(found) == 1 else []


def _set_image(graph: Graph, name: str, file: str) -> bool:
    """Into Load Image of that title, or behind that input of Prepare Latent, or into the only Load Image."""
    title = IMAGES[name]
    prepare = nodes_of(graph, PREPARE)
    link = graph[prepare[0]]["inputs"].get(name) if len(prepare) == 1 else None
    loader = (
        link[0] if isinstance(link, list) and graph.get(str(link[0]), {}).get("class_type") == "LoadImage" else None
    )
    if loader is None and link is None:
        titled = nodes_of(graph, "LoadImage", title)
        only = nodes_of(graph, "LoadImage") if name == "start_image" and not prepare else []
        loader = next((each[0] for each in (titled, only) if len(each) == 1), None)
    if loader is not None:
        graph[loader]["inputs"]["image"] = file
    elif len(prepare) == 1:
        loader = f"wan_relay_{name}"
        graph[loader] = {"class_type": "LoadImage", "_meta": {"title": title}, "inputs": {"image": file}}
    if loader is not None and len(prepare) == 1:
        graph[prepare[0]]["inputs"][name] = [loader, 0]
    return loader is not None


def _check_sizes(graph: Graph, max_pixels: int) -> None:
    for node in graph.values():
        size: list[Any] = [node["inputs"].get(name) for name in ("width", "height", "length")]
        if all(isinstance(side, int) for side in size) and size[0] * size[1] * size[2] > max_pixels:
            sentence = (
                f"{size[0]} x {size[1]} x {size[2]} is more than the {max_pixels / 1e6:.0f} million pixels that this "
                f"worker takes (node {title_of(node)})"
            )
            raise JobError("OUT_OF_RANGE", sentence, "length")
