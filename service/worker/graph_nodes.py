"""Nodes and links of a workflow in API format: {node id: {"class_type", "inputs", "_meta": {"title"}}}.

An input is a value, or a link [node id, slot].
"""

from typing import Any

Graph = dict[str, dict[str, Any]]


def nodes_of(graph: Graph, class_type: str, title: str | None = None) -> list[str]:
    """The keys of the nodes of this class, and of this title where one is asked for."""
    return [
        key
        for key, node in graph.items()
        if node["class_type"] == class_type and (title is None or node.get("_meta", {}).get("title") == title)
    ]


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
