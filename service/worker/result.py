"""The answer's values: those that were really used."""

import math
from collections.abc import Sequence
from typing import Any

from ..contract.video_answer import SegmentUse, Timings, VideoAnswer
from ..contract.video_request import VideoRequest
from .interpolation import INTERPOLATE, interpolation_used
from .long_video import find_long_video, in_segment, segments_used, warnings_of_segments
from .lora_rows import LORAS
from .node_report import node_report
from .saved_video import Video
from .upscaling import UPSCALE, upscaling_used
from .workflow import ENCODE, LOAD, NAG, PREPARE, SAMPLE, SAVE, Plan


def describe_video(
    video: Video,
    outputs: dict[str, Any],
    plan: Plan,
    request: VideoRequest,
    warnings: Sequence[str] = (),
    timings: dict[str, float | None] | None = None,
) -> VideoAnswer:
    """The answer but for the file itself: by the nodes' own reports, else by the values that were sent to them.

    `warnings` come before those of the plan and of the nodes; `timings` are seconds under the names of `Timings`.
    """
    reporting = (LOAD, LORAS, ENCODE, PREPARE, NAG, SAMPLE, UPSCALE, INTERPOLATE, SAVE)
    said = {class_type: _report(outputs, plan, class_type) for class_type in reporting}
    prepare, sample = said[PREPARE], said[SAMPLE]
    sent = plan.graph[plan.node_id(SAMPLE)]["inputs"]
    length = video.item.get("frame_count") or prepare.get("length", plan.value(PREPARE, "length"))
    fps = video.item.get("fps") or plan.fps
    values: dict[str, Any] = {
        "seed": sample.get("seed", sent["seed"]),
        "width": video.item.get("width") or prepare.get("width", plan.value(PREPARE, "width")),
        "height": video.item.get("height") or prepare.get("height", plan.value(PREPARE, "height")),
        "length": length,
        "fps": int(fps) if float(fps).is_integer() else fps,
        "duration": round(video.item.get("duration") or length / fps, 4),
        "workflow": request.workflow,
        **_prompts(plan),
        "format": video.mime_type,
    }
    for name in ("steps", "switch", "switch_step", "boundary", "sampler", "scheduler", "shift"):
        values[name] = sample.get(name, sent.get(name))
    values |= {name: sample.get(name, sent.get(name)) for name in ("high_noise_cfg", "low_noise_cfg")}
    values |= _legs(sample) | _after_the_sampler(plan)
    values |= upscaling_used(plan.graph) | interpolation_used(plan.graph)
    values |= {name: prepare.get(name, plan.value(PREPARE, name)) for name in ("sizing", "fit")}
    of_nodes = [sentence for report in said.values() for sentence in report.get("warnings") or ()]
    seconds = sample.get("seconds")
    of_experts = {f"{name}_s": value for name, value in seconds.items()} if isinstance(seconds, dict) else {}
    if long_video := find_long_video(plan.graph):
        values["segments"] = segments_used(outputs, long_video)
        if values["segments"]:
            first = values["segments"][0]
            values["seed"] = first.seed  # its sampler says nothing in a run that ComfyUI had cached
            values |= {"prompt": first.prompt} if first.prompt else {}
        of_nodes = list(dict.fromkeys([*of_nodes, *warnings_of_segments(outputs, long_video)]))
        of_experts = _seconds_of_all(values["segments"])
    if request.loop:  # its end is the start image, of which the same is said
        of_nodes = [sentence for sentence in of_nodes if not sentence.startswith("end_image ")]
    return VideoAnswer(
        **_finite(values),
        warnings=[*warnings, *plan.warnings, *of_nodes],
        timings=Timings(**_finite((timings or {}) | of_experts)),
    )


def _prompts(plan: Plan) -> dict[str, str]:
    """Those that the workflow encodes, where they are texts and not links to other nodes."""
    inputs = plan.graph[plan.node_id(ENCODE)]["inputs"]
    prompts = {name: inputs.get(name) for name in ("prompt", "negative_prompt")}
    return {name: text for name, text in prompts.items() if isinstance(text, str) and (text or name == "prompt")}


def _legs(sample: dict[str, Any]) -> dict[str, Any]:
    """What the sampler says of an opening leg and of NAG, where there were any."""
    reported = sample.get("legs")
    legs = [leg for leg in reported if isinstance(leg, dict)] if isinstance(reported, list) else []
    opening = [leg for leg in legs if leg.get("leg") == "opening"]
    nag_scale = max((leg.get("nag_scale") or 0.0 for leg in legs), default=0.0)
    values = {"opening_steps": opening[0].get("steps"), "opening_cfg": opening[0].get("cfg")} if opening else {}
    return values | ({"nag_scale": nag_scale} if nag_scale else {})


def _after_the_sampler(plan: Plan) -> dict[str, Any]:
    """What the nodes say themselves; what a link brings them is not known."""
    save, prepare = (plan.graph[plan.node_id(kind)]["inputs"] for kind in (SAVE, PREPARE))
    is_loop = save.get("drop_last_frame") is True or prepare.get("loop") is True
    order = save.get("frame_order", "forward")
    has_order = isinstance(order, str) and order != "forward"
    return ({"loop": True} if is_loop else {}) | ({"frame_order": order} if has_order else {})


def _report(outputs: dict[str, Any], plan: Plan, class_type: str) -> dict[str, Any]:
    """The node's own; of a long video that of its first segment."""
    long_video = find_long_video(plan.graph)
    for key, node in plan.graph.items():
        if node["class_type"] == class_type:
            return node_report(outputs, key, *([in_segment(long_video, 1, key)] if long_video else []))
    return {}


def _seconds_of_all(segments: Sequence[SegmentUse]) -> dict[str, float]:
    """The experts' seconds of all segments together, where they say them."""
    names = ("opening_s", "high_noise_s", "low_noise_s")
    said = {
        name: [seconds for segment in segments if (seconds := getattr(segment, name)) is not None] for name in names
    }
    return {name: round(sum(seconds), 3) for name, seconds in said.items() if seconds}


def _finite(value: Any) -> Any:
    """JSON has no NaN: the SDK would post an answer that no client can parse."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
