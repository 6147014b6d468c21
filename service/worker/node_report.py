"""What a node of ours reported of its run, in ComfyUI's history."""

from typing import Any


def node_report(outputs: dict[str, Any], *node_ids: str) -> dict[str, Any]:
    """Of the first of the nodes that has any output; empty where there is none."""
    output: dict[str, Any] = next((outputs[node_id] for node_id in node_ids if outputs.get(node_id)), {})
    reports = output.get("wan_relay") or [{}]
    return reports[0] if isinstance(reports[0], dict) else {}
