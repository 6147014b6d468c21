"""What a widget of the running graph holds, found as the editor finds it for `%node.widget%` in a file name."""

from collections.abc import Callable, Iterator
from typing import Any

OWN_PREFIX = "WanRelay_"
SEARCH_NAME = "Node name for S&R"  # the editor's property, which a user can change; a node's class at first

Node = dict[str, Any]


def widget_value(prompt: dict[str, Node], workflow: Any, node_name: str, widget: str) -> str | None:
    """The text of `widget` on the node called `node_name`, or None where the graph has no such plain value.

    `prompt` is the graph in API format, `workflow` the editor's own, or whatever a client sent in its place. A node is
    called by its property "Node name for S&R", else its title, else its class, which for a node of this pack may come
    without the prefix (Sample); the first such node counts. A widget that is linked to one of ComfyUI's primitive
    nodes has that node's value.
    """
    value = _inputs(_find(prompt, workflow, node_name)).get(widget, {})
    if isinstance(value, list):
        source = prompt.get(str(value[0]), {}) if value else {}
        value = _inputs(source).get("value", {}) if str(source.get("class_type")).startswith("Primitive") else {}
    return _as_the_editor_writes(value)


def _find(prompt: dict[str, Node], workflow: Any, name: str) -> Node:
    search_names = _search_names(workflow)
    ids = [*(key for key in search_names if key in prompt), *(key for key in prompt if key not in search_names)]
    ways: tuple[Callable[[str], Any], ...] = (
        search_names.get,
        lambda key: _as_dict(prompt[key].get("_meta")).get("title"),
        lambda key: prompt[key].get("class_type"),
        lambda key: str(prompt[key].get("class_type")).removeprefix(OWN_PREFIX),
    )
    return next((prompt[key] for way in ways for key in ids if way(key) == name), {})


def _search_names(workflow: Any) -> dict[str, str]:
    """Node id in API format -> the editor's name for it, in the editor's order: a subgraph's nodes, then itself."""
    try:
        subgraphs = {each["id"]: each["nodes"] for each in workflow.get("definitions", {}).get("subgraphs", ())}
        return dict(_walk(workflow["nodes"], subgraphs, ""))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return {}


def _walk(nodes: list[Node], subgraphs: dict[str, list[Node]], path: str) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if node["type"] in subgraphs:
            yield from _walk(subgraphs[node["type"]], subgraphs, f"{path}{node['id']}:")
        yield f"{path}{node['id']}", node.get("properties", {}).get(SEARCH_NAME)


def _inputs(node: Node) -> Node:
    return _as_dict(node.get("inputs"))


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_the_editor_writes(value: Any) -> str | None:
    """A widget's value as JavaScript makes text of it: 5.0 is 5, True is true, null is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) else None
