"""Which workflow a request wants: a bundled one by name, the operator's own by name, or the one that it brings."""

import json
import re
from dataclasses import dataclass
from typing import Any, get_args

from ..contract.errors import JobError
from ..contract.graph_request import GraphFields, from_text
from ..contract.video_request import WorkflowName, parse_fields
from ..media.volume_file import read_from_volume
from .exported_graph import check_allowed, read_graph
from .graph_nodes import Graph
from .settings import Settings

MAX_FILE = 10_000_000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}\Z")


@dataclass(frozen=True)
class GraphRequest:
    """A workflow that is not one of the bundled; `name` is that of the operator's file, None for the request's own."""

    graph: Graph
    name: str | None
    fields: GraphFields
    warnings: list[str]


def read_graph_request(raw: dict[str, Any], settings: Settings) -> GraphRequest | None:
    """None where the request is one for a bundled workflow. Raises JobError."""
    wanted = from_text(raw.get("workflow"))
    if isinstance(wanted, dict):
        if not settings.takes_graphs:
            raise JobError("INVALID_VALUE", "this worker runs no workflow that comes with a request", "workflow")
        name, graph = None, read_graph(wanted)
        check_allowed(graph, settings.graph_nodes, settings.graph_models)
    elif isinstance(wanted, str) and wanted.strip() in own_workflows(settings):
        name = wanted.strip()
        graph = _on_the_volume(name, settings)
    else:
        return None
    fields, warnings = parse_fields({key: value for key, value in raw.items() if key != "workflow"}, GraphFields)
    if fields.is_series:
        named = "num_videos" if fields.seeds is None else "seeds"
        raise JobError("CONFLICT", f"{named} is for the bundled workflows; send a job for each seed of this one", named)
    if fields.return_last_frame:
        sentence = "return_last_frame is for the bundled workflows; this one answers with what its own nodes save"
        raise JobError("CONFLICT", sentence, "return_last_frame")
    return GraphRequest(graph, name, fields, warnings)


def own_workflows(settings: Settings) -> list[str]:
    """Names of the operator's `workflows/NAME.json` on the volume; a bundled one keeps its name."""
    bundled = get_args(WorkflowName)
    try:
        names = sorted(path.stem for path in settings.own_workflows.glob("*.json"))
    except OSError:
        return []
    return [name for name in names if _NAME.match(name) and name not in bundled]


def _on_the_volume(name: str, settings: Settings) -> Graph:
    content = read_from_volume(str(settings.own_workflows / f"{name}.json"), settings.volume, MAX_FILE, "workflow")
    try:
        return read_graph(json.loads(content))
    except (ValueError, RecursionError):
        raise JobError("INVALID_VALUE", f"workflows/{name}.json on the volume is not JSON", "workflow") from None
    except JobError as error:
        raise JobError(error.code, f"workflows/{name}.json on the volume: {error.sentence}", "workflow") from None
