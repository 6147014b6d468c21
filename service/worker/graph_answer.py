"""What is said of the files that a client's own workflow saved."""

import io
from collections.abc import Sequence
from typing import Any

import av

from ..contract.graph_answer import GraphAnswer
from ..contract.video_answer import Timings
from .graph_nodes import Graph
from .graph_request import GraphRequest
from .output_files import OutputFile
from .result import describe_video
from .workflow import Plan

FROM_REQUEST = "request"


def describe_files(
    files: Sequence[OutputFile],
    outputs: dict[str, Any],
    plan: Plan,
    request: GraphRequest,
    is_ours: bool,
    warnings: Sequence[str],
    timings: dict[str, float | None],
) -> GraphAnswer:
    """The answer but for the files themselves: as of a bundled workflow where this one is built like one (`is_ours`),
    else by the first video itself.
    """
    video = first_video(files)
    name = request.name or FROM_REQUEST
    if video is not None and is_ours:
        described = describe_video(video, outputs, plan, request.fields, warnings, timings)
        values = {field: getattr(described, field) for field in described.model_fields_set} | {"workflow": name}
        return GraphAnswer(images=[], **values)
    values = {"workflow": name} | ({} if video is None else video_facts(video))
    seed = first_seed(plan.graph)
    values |= {} if seed is None else {"seed": seed}
    said = [*warnings, *plan.warnings, *_warnings_of_nodes(outputs)]
    answer = GraphAnswer(images=[], warnings=said, timings=Timings(**timings), **values)
    return answer if files else answer.model_copy(update={"status": "success_no_images"})


def first_video(files: Sequence[OutputFile]) -> OutputFile | None:
    return next((file for file in files if file.is_video), None)


def video_facts(video: OutputFile) -> dict[str, Any]:
    """Size, frames, frame rate and MIME type by the file's own header; the MIME type alone where it has none."""
    facts: dict[str, Any] = {"format": video.mime_type}
    try:
        with av.open(io.BytesIO(video.content)) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or 0)
            frames = stream.frames or round(float((container.duration or 0) / av.time_base) * fps)
            facts |= {"width": stream.codec_context.width, "height": stream.codec_context.height}
    except (av.FFmpegError, IndexError, ValueError):
        return facts
    if fps and frames:
        shown = int(fps) if fps.is_integer() else round(fps, 4)
        facts |= {"length": frames, "fps": shown, "duration": round(frames / fps, 4)}
    return facts


def first_seed(graph: Graph) -> int | None:
    values = (node["inputs"].get(name) for node in graph.values() for name in ("seed", "noise_seed"))
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _warnings_of_nodes(outputs: dict[str, Any]) -> list[str]:
    """What Wan Relay's own nodes say, wherever they stand."""
    reports = [node.get("wan_relay") for node in outputs.values() if isinstance(node, dict)]
    said = [each.get("warnings") for report in reports if isinstance(report, list) for each in report[:1]]
    return [sentence for sentences in said if isinstance(sentences, list) for sentence in sentences]
