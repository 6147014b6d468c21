"""A workflow that a client, or the operator, exported from ComfyUI's editor: read, judged, and kept in its place.

Plain rules over the API format, which is {node id: {"class_type", "inputs", "_meta": {"title"}}}; an input is a value,
or a link [node id, slot]. What a class has is read from ComfyUI's /object_info.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..contract.errors import JobError
from .graph_nodes import Graph, is_link

MAX_NODES = 1000
MAX_CLASS = 200
HOW_TO_EXPORT = "in ComfyUI's editor choose File > Export (API), and send what that file holds"
MODEL_FILE = re.compile(r"\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx|pkl)\Z", re.IGNORECASE)

# Where a node saves: the first of these that it has. `folder_name` is of core's nodes for datasets.
_SAVES_TO = ("folder_name", "filename_prefix", "prefix")
# An input that no node has. It makes ComfyUI run a save node again whose file of an earlier job is gone.
_FRESH = "wan_relay_job"
_PLACE = re.compile(r"\s*\[(input|output|temp)\]\s*\Z")
_ABSOLUTE = re.compile(r"/.|~[^/\\]*[/\\]|[A-Za-z]:[\\/]|file:", re.IGNORECASE)


@dataclass(frozen=True)
class NodeFacts:
    """What a class's inputs are: names of pictures and of other files in ComfyUI's input folder, and prose."""

    is_output: bool
    pictures: frozenset[str]
    other_files: frozenset[str]
    prose: frozenset[str]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "NodeFacts":
        """From the class's entry in /object_info."""
        options = {name: dict(spec[1]) for name, spec in _specs(info) if len(spec) > 1 and isinstance(spec[1], dict)}
        here = {name: each for name, each in options.items() if each.get("image_folder", "input") == "input"}
        return cls(
            is_output=info.get("output_node") is True,
            pictures=frozenset(name for name, each in here.items() if each.get("image_upload")),
            other_files=frozenset(name for name, each in here.items() if _is_true(each, "video", "audio", "file")),
            prose=frozenset(name for name, each in options.items() if each.get("multiline")),
        )


def _specs(info: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    inputs = info.get("input") or {}
    for part in ("required", "optional"):
        yield from (inputs.get(part) or {}).items()


def _is_true(options: Mapping[str, Any], *kinds: str) -> bool:
    return any(options.get(f"{kind}_upload") for kind in kinds)


def read_graph(value: Any) -> Graph:
    """The nodes alone, as a copy. Raises JobError for what is not the API format."""
    if not isinstance(value, dict) or not value:
        raise _not_a_graph("workflow must be an object of nodes by their ids")
    if isinstance(value.get("nodes"), list):
        raise _not_a_graph("workflow has the editor's own format, which ComfyUI cannot run")
    if len(value) > MAX_NODES:
        raise JobError("INVALID_VALUE", f"workflow has {len(value)} nodes, at most {MAX_NODES} are taken", "workflow")
    return {node_id: _read_node(node_id, node) for node_id, node in value.items()}


def _read_node(node_id: str, node: Any) -> dict[str, Any]:
    class_type = node.get("class_type") if isinstance(node, dict) else None
    if not isinstance(class_type, str) or not 0 < len(class_type) <= MAX_CLASS:
        raise _not_a_graph(f"node {node_id[:40]} of workflow has no class_type")
    inputs, meta = node.get("inputs", {}), node.get("_meta")
    if not isinstance(inputs, dict):
        raise _not_a_graph(f"node {node_id[:40]} of workflow has inputs that are no object")
    title = meta.get("title") if isinstance(meta, dict) else None
    shown = title if isinstance(title, str) and title.strip() else class_type
    return {"class_type": class_type, "inputs": dict(inputs), "_meta": {"title": shown[:100]}}


def _not_a_graph(what: str) -> JobError:
    return JobError("INVALID_VALUE", f"{what}; {HOW_TO_EXPORT}", "workflow")


def title_of(node: Mapping[str, Any]) -> str:
    return str(node["_meta"]["title"])


def strings(value: Any) -> Iterator[str]:
    """The texts in an input's value; a link has none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list) and not is_link(value):
        for item in value:
            yield from strings(item)


def raise_first(faults: Sequence[JobError]) -> None:
    """Raises the first, which says how many there are more."""
    if faults:
        raise counted(faults[0], len(faults) - 1)


def counted(first: JobError, more: int) -> JobError:
    rest = f"; and {more} more {'fault' if more == 1 else 'faults'}" if more > 0 else ""
    return JobError(first.code, first.sentence + rest, first.field, refresh_worker=first.refresh_worker)


# --- what a request may use ---


def allows(patterns: str, name: str) -> bool:
    """By a list such as `WanRelay_*, LoadImage` or `*, !CheckpointSave`: named, and by no `!` named away."""
    listed = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    is_away = any(fnmatchcase(name, pattern[1:].strip()) for pattern in listed if pattern.startswith("!"))
    return not is_away and any(fnmatchcase(name, pattern) for pattern in listed if not pattern.startswith("!"))


def check_allowed(graph: Graph, nodes: str, models: str) -> None:
    """Raises JobError for a class, or for a model file's name, that is not in the operator's lists."""
    faults: list[JobError] = []
    for node in graph.values():
        if not allows(nodes, node["class_type"]):
            sentence = f"this worker takes no {node['class_type']} in a request's workflow (node {title_of(node)})"
            faults.append(JobError("INVALID_VALUE", sentence, "workflow"))
        for name, value in node["inputs"].items():
            for text in strings(value):
                if MODEL_FILE.search(text) and not allows(models, text):
                    sentence = f"this worker takes no {text} in a request's workflow ({_place(node, name)})"
                    faults.append(JobError("INVALID_VALUE", sentence, "workflow"))
    raise_first(faults)


def check_classes(graph: Graph, known: Iterable[str]) -> None:
    """Raises JobError NODE_MISSING for classes that ComfyUI does not have."""
    classes = set(known)
    missing = {node["class_type"]: node for node in graph.values() if node["class_type"] not in classes}
    raise_first(
        [
            JobError("NODE_MISSING", f"this worker's ComfyUI has no node {class_type} (node {title_of(node)})")
            for class_type, node in missing.items()
        ]
    )


# --- no path out of the job's folders ---


def leads_out(text: str, is_prose: bool) -> bool:
    """Whether a text names a file somewhere else: an absolute path, or `..` in it. Prose does so as one word alone."""
    word = text.strip()
    if is_prose and any(character.isspace() for character in word):
        return False
    return bool(_ABSOLUTE.match(word)) or any(part.strip() == ".." for part in re.split(r"[\\/]", word))


def check_paths(graph: Graph, facts: Mapping[str, NodeFacts]) -> None:
    """Raises JobError INVALID_PATH for a text that leads out, and for `name [output]` and `name [temp]`."""
    raise_first(
        [
            JobError("INVALID_PATH", f"{name} must not lead out of the job's folders ({_of(node)})")
            for node in graph.values()
            for name in node["inputs"]
            if _leads_elsewhere(node, name, facts[node["class_type"]])
        ]
    )


def _leads_elsewhere(node: Mapping[str, Any], name: str, known: NodeFacts) -> bool:
    value = node["inputs"][name]
    if any(leads_out(text, name in known.prose) for text in strings(value)):
        return True
    if name in known.pictures | known.other_files and isinstance(value, str):
        place = _PLACE.search(value)
        return place is not None and place[1] != "input"
    # Core's dataset savers check a prefix that comes over a link in vain.
    return name in _SAVES_TO and "folder_name" in node["inputs"] and is_link(value)


def move_outputs(graph: Graph, facts: Mapping[str, NodeFacts], folder: str) -> None:
    """Every save node writes below `folder`, which is new for each job.

    One whose prefix comes over a link writes where that leads in ComfyUI's output folder.
    """
    for node in graph.values():
        if not facts[node["class_type"]].is_output:
            continue
        inputs = node["inputs"]
        name = next((name for name in _SAVES_TO if isinstance(inputs.get(name), str)), None)
        if name is None:
            inputs[_FRESH] = folder
        else:
            inputs[name] = f"{folder}/{inputs[name].strip().strip('/') or 'ComfyUI'}"


# --- pictures ---


def plain_name(value: str) -> str:
    """`photo.png [input]` without where it lies."""
    return _PLACE.sub("", value) if _PLACE.search(value) else value


def use_images(graph: Graph, own_names: Mapping[str, str]) -> set[str]:
    """Puts the job's own names in place of the client's, wherever a node names a picture so; returns those it found."""
    used: set[str] = set()
    for node in graph.values():
        for name, value in node["inputs"].items():
            if isinstance(value, str) and (given := plain_name(value)) in own_names:
                node["inputs"][name] = own_names[given]
                used.add(given)
    return used


def reachable(graph: Graph, facts: Mapping[str, NodeFacts]) -> set[str]:
    """Ids of the output nodes and of all that they are linked to: what ComfyUI looks at, and runs."""
    found: set[str] = set()
    waiting = [node_id for node_id, node in graph.items() if facts[node["class_type"]].is_output]
    while waiting:
        node_id = waiting.pop()
        if node_id in graph and node_id not in found:
            found.add(node_id)
            waiting += [value[0] for value in graph[node_id]["inputs"].values() if is_link(value)]
    return found


@dataclass(frozen=True)
class NamedFile:
    """A file of ComfyUI's input folder that a node names."""

    node_id: str
    input_name: str
    name: str
    is_picture: bool


def named_files(graph: Graph, facts: Mapping[str, NodeFacts], own_names: Iterable[str]) -> list[NamedFile]:
    """Those that are not the job's own, of nodes that run."""
    own, running = set(own_names), reachable(graph, facts)
    found = []
    for node_id, node in graph.items():
        if node_id not in running:
            continue
        known = facts[node["class_type"]]
        for name in sorted(known.pictures | known.other_files):
            value = node["inputs"].get(name)
            if isinstance(value, str) and value.lower() not in ("", "none") and value not in own:
                found.append(NamedFile(node_id, name, plain_name(value), name in known.pictures))
    return found


def _of(node: Mapping[str, Any]) -> str:
    return f"node {title_of(node)}"


def _place(node: Mapping[str, Any], input_name: str) -> str:
    return f"node {title_of(node)}, input {input_name}"
