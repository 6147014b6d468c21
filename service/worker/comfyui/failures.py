"""ComfyUI's refusals and failures in our codes: the node's title, ComfyUI's own sentence, the request's field."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from ...contract.errors import JobError
from ..exported_graph import MODEL_FILE, counted
from ..graph_nodes import Graph
from ..long_video import EXPANDED, longest_pass
from ..lora_rows import LORAS
from ..workflow import INPUT_FIELDS, LOAD, MODEL_INPUTS

_GPU_FAULTS = (
    "cuda error",
    "cudnn error",
    "cublas",
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "unknown error",
    "cuda kernel errors",
    "acceleratorerror",
)
# How the pack's loaders say that a file is not in any models folder, and which one is called nearly so.
_ABSENT_FILE = re.compile(r"'([^']+)' not in [\[(].*?(?:; the closest name there is '([^']+)')?$")
_NAMED_INPUT = re.compile(r"([a-z_0-9.]+): ")
_DISK_FAULTS = ("no space left on device", "errno 28", "read-only file system", "disk quota exceeded")


def refused_prompt(body: dict[str, Any], graph: Graph) -> JobError:
    """From the body of POST /prompt when ComfyUI queued nothing, or dropped an output."""
    error = body.get("error")
    error = error if isinstance(error, dict) else {"message": str(error or "")}
    if error.get("type") == "missing_node_type":
        extra = error.get("extra_info") or {}
        return JobError(
            "NODE_MISSING", f"this worker's ComfyUI has no node {extra.get('class_type') or 'of that class'}"
        )
    faults = [
        _refused_input(graph, node_id, str(node.get("class_type", "")), fault)
        for node_id, node in sorted((body.get("node_errors") or {}).items(), key=_place_in(graph))
        for fault in node.get("errors") or ()
    ]
    if faults:
        # What a node's own check says comes once for each of its inputs.
        return counted(faults[0], len({fault.sentence for fault in faults}) - 1)
    return JobError("INVALID_INPUT", f"ComfyUI refused the workflow: {error.get('message') or 'no reason given'}")


def _place_in(graph: Graph) -> Callable[[tuple[str, Any]], int]:
    """ComfyUI names nodes in no order: here they come in that of the workflow."""
    places = {node_id: place for place, node_id in enumerate(graph)}
    return lambda item: places.get(item[0], len(places))


def _refused_input(graph: Graph, node_id: str, class_type: str, fault: dict[str, Any]) -> JobError:
    extra = fault.get("extra_info") or {}
    name = str(extra.get("input_name", ""))
    field = INPUT_FIELDS.get((class_type, name))
    title = node_title(graph, node_id)
    place = f"node {title}, input {name}"
    kind, details = str(fault.get("type", "")), str(fault.get("details", ""))
    if kind == "custom_validation_failed":
        sentence = (details.partition(" - ")[2] or details).rstrip(".")
        of_files = class_type in (LOAD, LORAS) or (class_type, name) in MODEL_INPUTS
        if of_files and (absent := _ABSENT_FILE.search(sentence)):
            named = _NAMED_INPUT.match(sentence)
            return _absent_model(absent[1], absent[2], f"node {title}, input {named[1] if named else name}")
        if class_type in (LOAD, LORAS):
            return JobError("MODEL_REFUSED", f"{sentence} (node {title})")
        return JobError("INVALID_VALUE", f"{sentence} (node {title})", _named_field(sentence) or field)
    if kind == "value_not_in_list" and (class_type, name) in MODEL_INPUTS:
        file = str(extra.get("received_value"))
        return _absent_model(file, _closest(file, extra), place)
    if kind == "value_not_in_list" and field:
        sentence = f"{field} must be one that this worker's ComfyUI knows, got {str(extra.get('received_value'))[:40]}"
        return JobError("INVALID_VALUE", sentence, field)
    if kind in ("value_smaller_than_min", "value_bigger_than_max") and field:
        return JobError("OUT_OF_RANGE", f"{fault.get('message')} (node {title})", field)
    if name and not field and (class_type, name) not in MODEL_INPUTS:
        return _refused_foreign_input(fault, kind, details, place)
    return JobError("INVALID_INPUT", f"{fault.get('message')}: {details} (node {title})", field)


def _refused_foreign_input(fault: dict[str, Any], kind: str, details: str, place: str) -> JobError:
    """Of a node that no bundled workflow has, or of an input that no field of a request sets."""
    extra = fault.get("extra_info") or {}
    got = str(extra.get("received_value"))
    if kind == "value_not_in_list" and MODEL_FILE.search(got):
        return _absent_model(got, _closest(got, extra), place)
    if kind == "value_not_in_list":
        name = extra.get("input_name")
        return JobError(
            "INVALID_VALUE", f"{name} must be one that this worker's ComfyUI knows, got {got[:40]} ({place})"
        )
    code = "OUT_OF_RANGE" if kind in ("value_smaller_than_min", "value_bigger_than_max") else "INVALID_INPUT"
    more = f": {details}" if details and details != extra.get("input_name") else ""
    return JobError(code, f"{fault.get('message')}{more} ({place})")


def _closest(file: str, extra: dict[str, Any]) -> str | None:
    """The name in the node's list that is most like this one."""
    config = extra.get("input_config") or [[]]
    choices = config[0]  # ComfyUI sends up to 20
    if choices == "COMBO" and len(config) > 1 and isinstance(config[1], dict):
        choices = config[1].get("options")
    names = [choice for choice in choices if isinstance(choice, str)] if isinstance(choices, list) else []
    return next(iter(get_close_matches(file.replace("\\", "/"), names, 1, 0.8)), None)


def _absent_model(file: str, closest: str | None, place: str) -> JobError:
    hint = f", where the closest name is {closest}" if closest else ""
    return JobError("MODEL_MISSING", f"{file} is not on this worker{hint} ({place})")


def failed_execution(message: dict[str, Any], graph: Graph) -> JobError:
    """From the `execution_error` message of a run."""
    title = node_title(graph, str(message.get("node_id", "")))
    kind = str(message.get("exception_type", ""))
    sentence = _first_line(str(message.get("exception_message", ""))).rstrip(".") or kind or "no reason given"
    everything = f"{kind} {message.get('exception_message', '')}".lower()
    if kind.endswith("OutOfMemoryError") or "allocation on device" in everything or "out of memory" in everything:
        return JobError(
            "OUT_OF_MEMORY", f"{_size(graph)} does not fit the GPU; lower the size or the length (node {title})"
        )
    if any(words in everything for words in _DISK_FAULTS):
        return JobError("DISK_FULL", f"the worker's disk is full (node {title})", refresh_worker=True)
    if any(words in everything for words in _GPU_FAULTS):
        return JobError("GPU_ERROR", f"the GPU failed: {sentence} (node {title})", refresh_worker=True)
    if kind.endswith("FileRefused"):
        return JobError("MODEL_REFUSED", f"{sentence} (node {title})")
    if kind.endswith("InvalidInput"):
        return JobError("INVALID_VALUE", f"{sentence} (node {title})", _named_field(sentence))
    return JobError("EXECUTION_FAILED", f"{sentence} (node {title})")


def node_title(graph: Graph, node_id: str) -> str:
    """Of a copy that Long Video made for a segment, the title of what it is a copy of."""
    long_video, _, copied = node_id.partition(EXPANDED)
    names = (node_id, copied.partition(".")[2], long_video, node_id.partition(":")[0])
    node = next((graph[name] for name in names if name in graph), {})
    return str(node.get("_meta", {}).get("title") or node.get("class_type") or "unknown")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _named_field(sentence: str) -> str | None:
    """The pack's sentences begin with the input they are about."""
    first = sentence.split(" ", 1)[0].strip("`'\"")
    return next((field for (_, name), field in INPUT_FIELDS.items() if name == first), None)


def _size(graph: Graph) -> str:
    """Of what the model makes at a time: a long video is made in passes."""
    for node in graph.values():
        inputs = node["inputs"]
        if {"width", "height", "length"} <= inputs.keys():
            size = [inputs["width"], inputs["height"], longest_pass(graph, inputs["length"])]
            if all(isinstance(side, int) for side in size):
                return " x ".join(map(str, size))
    return "this job"
