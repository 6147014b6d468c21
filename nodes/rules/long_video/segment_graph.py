"""From the graph that makes one clip to the graph that makes a clip of each segment.

What a segment changes is a prompt, a seed, a length, the images and, where its prompt says so, LoRA strengths. Those
nodes, and all between them and the sampler, are copied for each segment; models and VAE stay the one that is there. The
copies' names depend on the segment's number alone, so that ComfyUI finds what an earlier run has made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..frames.timeline import check_loop
from .lora_tags import strength_inputs
from .segment_plan import LongVideoPlan, Segment, check_prepared

Node = Mapping[str, Any]
Graph = dict[str, dict[str, Any]]
Link = Sequence[Any]

PREPARE, ADD_SEGMENT = "WanRelay_PrepareLatent", "WanRelay_AddSegment"
SAMPLE = "WanRelay_Sample"
SEED_INPUTS = {SAMPLE: "seed", "RandomNoise": "noise_seed"}
PROMPT_INPUTS = {"WanRelay_EncodePrompts": "prompt", "CLIPTextEncode": "text"}
WIDTH_OUTPUT, HEIGHT_OUTPUT = 3, 4  # of Prepare Latent
SEGMENTS_OUTPUT, TAIL_OUTPUT, IMAGES_OUTPUT, REPORT_OUTPUT = range(4)  # of Add Segment
SAMPLE_REPORT_OUTPUT = 1


class ClipGraph(NamedTuple):
    """The nodes of a graph that makes one clip, found from the link to its finished latent."""

    latent: Link
    prepare: str
    seed: str
    prompt: str | None
    above: dict[str, dict[str, Any]]  # every node that the latent comes from


def find_clip(latent: Link, node_of: Callable[[str], Node]) -> ClipGraph:
    """The clip that `latent`, a link, comes from. Raises InvalidInput for a graph that is not understood."""
    above: dict[str, dict[str, Any]] = {}
    _collect(latent[0], node_of, above)
    prepare = _only(above, {PREPARE}, "Wan Relay: Prepare Latent")
    given = above[prepare]["inputs"]
    check_prepared(given.get("batch_size", 1), "keyframes" in given)
    seed = _only(above, set(SEED_INPUTS), "Wan Relay: Sample, or one Random Noise")
    return ClipGraph(latent, prepare, seed, _prompt_node(above, prepare), above)


def segment_graph(
    clip: ClipGraph, plan: LongVideoPlan, vae: Link, prefix: str, joining: Mapping[str, Any]
) -> tuple[Graph, list[str]]:
    """The graph in ComfyUI's format, and the Add Segment of each segment, first to last.

    `joining` are the inputs that every Add Segment gets, and `prefix` begins the name of every node.
    """
    graph: Graph = {}
    added: list[str] = []
    strengths = [strength_inputs(clip.above, segment.loras) for segment in plan.segments]
    has_prompts = any(segment.prompt is not None for segment in plan.segments)
    copied = _copied(clip, has_prompts, {name for of_segment in strengths for name in of_segment})
    for index, segment in enumerate(plan.segments):
        names = {name: f"{prefix}{index + 1}.{name}" for name in copied}
        for name in copied:
            node = clip.above[name]
            inputs = {key: _renamed(value, names) for key, value in node["inputs"].items()}
            graph[names[name]] = {
                "class_type": node["class_type"],
                "inputs": inputs,
                "override_display_id": name,  # the editor shows its progress and its report there
            }
        _set_values(graph, names, clip, segment)
        for name, values in strengths[index].items():
            graph[names[name]]["inputs"] |= values
        prepare = graph[names[clip.prepare]]["inputs"]
        is_last = index == len(plan.segments) - 1
        if index:
            first = f"{prefix}1.{clip.prepare}"
            _go_on(prepare, [added[-1], TAIL_OUTPUT], plan.overlap)
            prepare |= {"sizing": "fixed", "width": [first, WIDTH_OUTPUT], "height": [first, HEIGHT_OUTPUT]}
        if len(plan.segments) > 1:
            _end(prepare, clip.above[clip.prepare]["inputs"], is_last)
        sampler = names[clip.latent[0]]
        adding = {**joining, "latent": [sampler, clip.latent[1]], "vae": list(vae), "overlap": plan.overlap}
        if graph[sampler]["class_type"] == SAMPLE:
            adding["report"] = [sampler, SAMPLE_REPORT_OUTPUT]
        if added:
            adding["previous"] = [added[-1], SEGMENTS_OUTPUT]
        added.append(f"{prefix}{index + 1}.segment")
        graph[added[-1]] = {"class_type": ADD_SEGMENT, "inputs": adding | {"finish": is_last}}
    return graph, added


def _go_on(prepare: dict[str, Any], tail: Link, overlap: int) -> None:
    """Of a segment that is not the first: `tail` are its first frames; an anchor and the padding stay."""
    start_image = prepare.pop("start_image", None)
    if prepare.get("padding") == "reference" and "anchor" not in prepare and start_image is not None:
        prepare["anchor"] = start_image
    prepare.pop("previous_latent", None)
    prepare |= {"previous": tail, "overlap": overlap}


def _end(prepare: dict[str, Any], given: Mapping[str, Any], is_last: bool) -> None:
    """What the video ends with, the end image or a loop's first frame, is the last segment's alone."""
    if is_link(given.get("loop")):
        raise InvalidInput("loop of Prepare Latent must be switched and not linked for a long video.")
    if not is_last:
        prepare.pop("end_image", None)
    elif given.get("loop"):
        check_loop("start_image" in given, "end_image" in given)
        prepare["end_image"] = given["start_image"]
    if "loop" in prepare and not is_last:
        prepare["loop"] = False


def _set_values(graph: Graph, names: Mapping[str, str], clip: ClipGraph, segment: Segment) -> None:
    graph[names[clip.prepare]]["inputs"]["length"] = segment.length
    seeded = graph[names[clip.seed]]
    seeded["inputs"][SEED_INPUTS[seeded["class_type"]]] = segment.seed
    if segment.prompt is None:
        return
    if clip.prompt is None:
        raise InvalidInput(
            "prompts needs one Wan Relay: Encode Prompts, or one CLIP Text Encode, before positive of Prepare Latent."
        )
    encode = graph[names[clip.prompt]]
    encode["inputs"][PROMPT_INPUTS[encode["class_type"]]] = segment.prompt


def _copied(clip: ClipGraph, has_prompts: bool, with_strengths: set[str]) -> list[str]:
    """The nodes that differ from segment to segment, and those that depend on one of them."""
    roots = {clip.prepare, clip.seed} | ({clip.prompt} if has_prompts and clip.prompt else set()) | with_strengths
    differs: dict[str, bool] = {}

    def depends(name: str) -> bool:
        if name not in differs:
            of_sources = [depends(source) for source in _sources(clip.above[name])]  # each of them is looked at
            differs[name] = name in roots or any(of_sources)
        return differs[name]

    depends(clip.latent[0])
    return [name for name in clip.above if differs[name]]


def _prompt_node(above: Graph, prepare: str) -> str | None:
    """The only node with a prompt that `positive` of Prepare Latent comes from."""
    link = above[prepare]["inputs"].get("positive")
    if not is_link(link):
        return None
    behind: dict[str, dict[str, Any]] = {}
    _collect(link[0], above.__getitem__, behind)
    found = [name for name, node in behind.items() if node["class_type"] in PROMPT_INPUTS]
    return found[0] if len(found) == 1 else None


def _collect(name: str, node_of: Callable[[str], Node], found: dict[str, dict[str, Any]]) -> None:
    """Puts the node and all that it comes from into `found`."""
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        node = node_of(current)
        found[current] = {"class_type": node["class_type"], "inputs": dict(node["inputs"])}
        waiting += _sources(node)


def _only(above: Graph, classes: set[str], title: str) -> str:
    found = [name for name, node in above.items() if node["class_type"] in classes]
    if len(found) != 1:
        raise InvalidInput(f"latent must come from a graph with one {title}; this one has {len(found)}.")
    return found[0]


def _sources(node: Node) -> Iterator[str]:
    return (value[0] for value in node["inputs"].values() if is_link(value))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    return [names.get(value[0], value[0]), value[1]] if is_link(value) else value


def is_link(value: Any) -> bool:
    """ComfyUI's own rule: [name of a node, number of its output]."""
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float)
    )
