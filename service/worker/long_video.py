"""A long video, put into a workflow: its segments in the place of the one VAE Decode, and what they report."""

import re
from collections.abc import Iterator, Set
from typing import Any

from ..contract.errors import JobError
from ..contract.segment_request import MAX_LENGTH, SegmentRequest, without_loras
from ..contract.video_answer import SegmentUse
from ..contract.video_request import VideoRequest
from .graph_nodes import Graph, nodes_of
from .node_report import node_report

LONG_VIDEO = "WanRelay_LongVideo"
NODE_ID = "wan_relay_long_video"
MAX_NODE_LENGTH = 1025  # of Prepare Latent, whose length does not count where the segments say theirs
OVERLAP = 1
# field of a request -> the list of Long Video that would overrule it
OVERRULED_BY = {
    "prompt": "prompts",
    "seed": "seeds",
    "length": "lengths",
    "duration": "lengths",
    "segment_length": "lengths",
}
EXPANDED = ".0.0."  # between a node's id and the names in the graph that it expands to, as ComfyUI builds them


def add_long_video(graph: Graph, request: VideoRequest, seed: int, prepare: str, sample: str, save: str) -> None:
    """Puts Long Video in the place of VAE Decode where the request asks for segments and the workflow has none.

    It also brings colours to the first frame: where no segments are asked for, those of one that has all frames.
    Raises JobError for a workflow whose frames do not come from VAE Decode alone.
    """
    has_segments = request.segments is not None or request.segment_length is not None
    if not has_segments and not request.is_brought_to_first_frame and not find_long_video(graph):
        return
    node = graph[find_long_video(graph) or _in_place_of_decoder(graph, request, sample, save)]["inputs"]
    if "colour_reference" in request.model_fields_set:
        node["colour_reference"] = request.colour_reference
    if request.is_brought_to_first_frame:
        node["match_colour"] = True
    if request.segment_length is not None:
        node["segment_length"] = request.segment_length
    if request.segments is not None:
        node["prompts"] = "\n".join(segment.prompt for segment in request.segments)
        node["seeds"] = ", ".join(map(str, _seeds(request.segments, seed)))
        node["lengths"] = ", ".join(str(segment.length) for segment in request.segments)
        graph[prepare]["inputs"]["length"] = min(MAX_NODE_LENGTH, sum(frames_of(node["lengths"])))


def clear_lists(graph: Graph, fields: Set[str]) -> None:
    """Empties the lists of Long Video that would overrule these fields: a request counts before the workflow."""
    lists = {OVERRULED_BY[field] for field in fields & OVERRULED_BY.keys()}
    for key in nodes_of(graph, LONG_VIDEO):
        graph[key]["inputs"] |= dict.fromkeys(lists & graph[key]["inputs"].keys(), "")


def without_effect(request: VideoRequest) -> list[str]:
    """A sentence for a prompt and for a seed that no segment of the request takes."""
    if request.segments is None:
        return []
    words = [without_loras(segment.prompt) for segment in request.segments]
    sentences = []
    if all(words) and " ".join(request.prompt.split()) != words[0]:
        sentences.append("prompt has no effect beside segments, which all have their own")
    seed = request.seeds[0] if request.seeds else request.seed
    if request.segments[0].seed is not None and seed not in (-1, request.segments[0].seed):
        name = "seeds" if request.seeds else "seed"
        sentences.append(f"{name} has no effect, because the first of segments has its own")
    return sentences


def find_long_video(graph: Graph) -> str | None:
    return next((key for key, node in graph.items() if node["class_type"] == LONG_VIDEO), None)


def frames_made(graph: Graph, length: int) -> tuple[int, int]:
    """(frames of the longest pass, frames of the video) of a workflow whose Prepare Latent says `length`."""
    key = find_long_video(graph)
    lengths = frames_of(graph[key]["inputs"]["lengths"]) if key else []
    whole = sum(lengths) - OVERLAP * (len(lengths) - 1) if lengths else length
    return longest_pass(graph, length) or length, whole


def longest_pass(graph: Graph, length: Any) -> int | None:
    """The frames that the model makes at a time; None where a link brings what says that."""
    key = find_long_video(graph)
    inputs = graph[key]["inputs"] if key else {"segment_length": length}
    lengths, most = inputs.get("lengths", ""), inputs.get("segment_length")
    if not isinstance(lengths, str):
        return None
    if listed := frames_of(lengths):
        return max(listed)
    return min(length, most) if isinstance(length, int) and isinstance(most, int) else None


def frames_of(lengths: str) -> list[int]:
    """Raises JobError."""
    words = [word for word in re.split(r"[\s,;]+", lengths) if word]
    for word in words:
        if not re.fullmatch(r"\d{1,20}", word) or int(word) > MAX_LENGTH:
            sentence = f"lengths of Long Video must be whole numbers from 0 to {MAX_LENGTH} with commas between"
            raise JobError("INVALID_VALUE", f"{sentence}, got {word[:40]}")
    return [int(word) for word in words]


def in_segment(long_video: str, number: int, node: str) -> str:
    """The id of what Long Video made of `node` for its segment `number`, from 1."""
    return f"{long_video}{EXPANDED}{number}.{node}"


def segment_of(node_id: str, long_video: str | None, node: str) -> int | None:
    """1 for what Long Video made of `node` for its first segment, and so on; None for any other node."""
    start, end = f"{long_video}{EXPANDED}", f".{node}"
    number = node_id.removeprefix(start).removesuffix(end)
    return int(number) if node_id == f"{start}{number}{end}" and number.isdecimal() else None


def segments_used(outputs: dict[str, Any], long_video: str) -> list[SegmentUse]:
    """By the reports of Long Video and of its Add Segments."""
    planned = node_report(outputs, long_video).get("segments") or []
    used = []
    for number, segment in enumerate(planned, 1):
        seconds = node_report(outputs, in_segment(long_video, number, "segment")).get("seconds") or {}
        of_experts = {f"{name}_s": value for name, value in seconds.items() if f"{name}_s" in SegmentUse.model_fields}
        of_prompt = {key: segment[key] for key in ("prompt", "loras") if segment.get(key) is not None}
        used.append(SegmentUse(length=segment["length"], seed=segment["seed"], **of_prompt, **of_experts))
    return used


def warnings_of_segments(outputs: dict[str, Any], long_video: str) -> Iterator[str]:
    """What Long Video said, and each thing once that its segments said."""
    yield from dict.fromkeys(
        sentence
        for key in outputs
        if key == long_video or key.startswith(f"{long_video}{EXPANDED}")
        for sentence in node_report(outputs, key).get("warnings") or ()
    )


def _in_place_of_decoder(graph: Graph, request: VideoRequest, sample: str, save: str) -> str:
    link = graph[save]["inputs"]["images"]
    decoder = graph[link[0]]
    if decoder["class_type"] != "VAEDecode" or decoder["inputs"]["samples"] != [sample, 0]:
        field = _field_that_asks(request)
        raise JobError("INVALID_VALUE", f"{field} needs a workflow whose frames come from VAE Decode alone", field)
    del graph[link[0]]
    graph[NODE_ID] = {
        "class_type": LONG_VIDEO,
        "_meta": {"title": "Long Video"},
        "inputs": {
            "latent": [sample, 0],
            "vae": decoder["inputs"]["vae"],
            "prompts": "",
            "segment_length": 81 if request.segment_length is not None else MAX_LENGTH,
            "overlap": OVERLAP,
            "join": "drop",
            "match_colour": True,
            "seeds": "",
            "lengths": "",
            "colour_reference": "clip before",
        },
    }
    graph[save]["inputs"] |= {"images": [NODE_ID, 0], "report": [NODE_ID, 1]}
    return NODE_ID


def _field_that_asks(request: VideoRequest) -> str:
    if request.segments is not None:
        return "segments"
    return "segment_length" if request.segment_length is not None else "colour_reference"


def _seeds(segments: tuple[SegmentRequest, ...], seed: int) -> list[int]:
    seeds: list[int] = []
    for segment in segments:
        following = (seeds[-1] + 1) % 2**64 if seeds else seed
        seeds.append(following if segment.seed is None else segment.seed)
    return seeds
