"""From ComfyUI's history to the answer: the file found, the values resolved, the size made to fit the platform."""

import asyncio
import base64
import json
import math
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract.errors import JobError
from ..contract.request import VideoRequest
from ..media.bucket import Bucket, UploadFailed, upload_video
from ..media.shrink import shrink_video
from .workflow import LOAD, LORAS, PREPARE, SAMPLE, SAVE, Plan

MIME_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska", ".mov": "video/quicktime"}
VIDEO_KEYS = ("images", "videos", "video", "gifs")


@dataclass
class Video:
    """A finished file and what is known about it."""

    content: bytes
    suffix: str
    item: dict[str, Any] = field(default_factory=dict)

    @property
    def mime_type(self) -> str:
        return MIME_TYPES[self.suffix]


def find_video(outputs: dict[str, Any], output_directory: Path) -> Video:
    """The first saved video of a history entry, whichever key its node uses. Raises JobError NO_OUTPUT."""
    root = os.path.realpath(output_directory)
    for node in outputs.values():
        for key in VIDEO_KEYS:
            for item in node.get(key) or () if isinstance(node, dict) else ():
                if not isinstance(item, dict) or item.get("type") != "output":
                    continue
                name, suffix = str(item.get("filename", "")), Path(str(item.get("filename", ""))).suffix.lower()
                path = os.path.realpath(os.path.join(root, str(item.get("subfolder", "")), name))
                if suffix in MIME_TYPES and os.path.commonpath((root, path)) == root:
                    return Video(_read(path), suffix, item)
    raise JobError("NO_OUTPUT", "ComfyUI finished, but none of its nodes saved a video")


def _read(path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise JobError("NO_OUTPUT", "ComfyUI finished, but the video file is not there") from None
    if not content:
        raise JobError("NO_OUTPUT", "ComfyUI finished, but the video file is empty")
    if content[4:8] != b"ftyp" and content[:4] != b"\x1a\x45\xdf\xa3":
        raise JobError("NO_OUTPUT", "ComfyUI finished, but the file it saved is not a video")
    return content


def resolved_values(outputs: dict[str, Any], plan: Plan, request: VideoRequest, video: Video) -> dict[str, Any]:
    """What was really used: the nodes' own reports, else the values that were sent to them."""
    said = {class_type: _report(outputs, plan, class_type) for class_type in (LOAD, LORAS, PREPARE, SAMPLE, SAVE)}
    prepare, sample = said[PREPARE], said[SAMPLE]
    sent = plan.graph[plan.node_id(SAMPLE)]["inputs"]
    values: dict[str, Any] = {
        "workflow": request.workflow,
        "seed": sample.get("seed", sent["seed"]),
        "width": video.item.get("width") or prepare.get("width", plan.value(PREPARE, "width")),
        "height": video.item.get("height") or prepare.get("height", plan.value(PREPARE, "height")),
        "length": video.item.get("frame_count") or prepare.get("length", plan.value(PREPARE, "length")),
        "fps": video.item.get("fps") or plan.value(SAVE, "fps"),
    }
    if float(values["fps"]).is_integer():
        values["fps"] = int(values["fps"])
    values["duration"] = round(video.item.get("duration") or values["length"] / values["fps"], 4)
    for name in ("steps", "switch", "switch_step", "boundary", "sampler", "scheduler", "shift"):
        values[name] = sample.get(name, sent.get(name))
    values |= {name: sample.get(name, sent.get(name)) for name in ("high_noise_cfg", "low_noise_cfg")}
    values["sizing"], values["fit"] = (prepare.get(name, plan.value(PREPARE, name)) for name in ("sizing", "fit"))
    values["format"] = video.mime_type
    values["warnings"] = [sentence for report in said.values() for sentence in report.get("warnings") or ()]
    if isinstance(sample.get("seconds"), dict):
        values["timings"] = {f"{name}_s": seconds for name, seconds in sample["seconds"].items()}
    return _finite(values)


def _report(outputs: dict[str, Any], plan: Plan, class_type: str) -> dict[str, Any]:
    for key, node in plan.graph.items():
        if node["class_type"] == class_type:
            reports = (outputs.get(key) or {}).get("wan_relay") or [{}]
            return reports[0] if isinstance(reports[0], dict) else {}
    return {}


def _finite(value: Any) -> Any:
    """JSON has no NaN: the SDK would post an answer that no client can parse."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def answer_size(answer: dict[str, Any]) -> int:
    """Bytes of the body that the SDK posts for this answer."""
    return len(json.dumps({"output": answer}, ensure_ascii=False, allow_nan=False).encode())


async def deliver(
    video: Video,
    answer: dict[str, Any],
    request: VideoRequest,
    budget: int,
    bucket: Bucket | None,
    job_id: str,
    upload_timeout_s: float,
) -> dict[str, Any]:
    """The answer with the video in it, by the first way that works and fits `budget` bytes of JSON.

    base64 if it fits, else the bucket within its time, else one re-encoding if the request allows it.
    Raises JobError RESULT_TOO_LARGE or UPLOAD_FAILED rather than return what the platform would drop.
    """
    inline_size = _inline_size(video.content, answer)
    fits = inline_size <= budget
    wants_url = request.delivery == "url" or (request.delivery == "auto" and not fits)
    upload_error = None
    if wants_url and bucket is None and request.delivery == "url":
        upload_error = "no bucket is configured on this worker"
    if wants_url and bucket is not None:
        try:
            key = f"{time.strftime('%Y-%m-%d', time.gmtime())}/{job_id}/{uuid.uuid4().hex[:12]}{video.suffix}"
            url = await upload_video(bucket, key, video.content, video.mime_type, upload_timeout_s)
            return answer | {"video_url": url}
        except Exception as error:
            reason = str(error) if isinstance(error, UploadFailed) else type(error).__name__
            upload_error = f"the bucket did not take the video: {reason}"
    if upload_error and fits:
        answer["warnings"] = [*answer["warnings"], f"{upload_error}, so it came as base64"]
        fits = (inline_size := _inline_size(video.content, answer)) <= budget
    if fits:
        return answer | {"video": base64.b64encode(video.content).decode("ascii")}
    if request.shrink:
        if upload_error:
            answer["warnings"] = [*answer["warnings"], upload_error]
        smaller = await _shrunk(video, answer, budget)
        if smaller is not None:
            return smaller
    if upload_error:
        raise JobError("UPLOAD_FAILED", f"{upload_error}, and {_megabytes(inline_size)} is too large for the answer")
    sentence = (
        f"the answer would be {_megabytes(inline_size)} and this call carries {_megabytes(budget)}; "
        "lower the size or the length, raise crf, or configure a bucket"
    )
    raise JobError("RESULT_TOO_LARGE", sentence)


async def _shrunk(video: Video, answer: dict[str, Any], budget: int) -> dict[str, Any] | None:
    note = f"the video was re-encoded from {_megabytes(len(video.content))} to fit the answer; its quality is lower"
    answer = answer | {"warnings": [*answer["warnings"], note]}
    room = (budget - _inline_size(b"", answer)) * 3 // 4
    smaller = await asyncio.to_thread(shrink_video, video.content, video.suffix, room)
    if smaller is None or _inline_size(smaller, answer) > budget:
        return None
    return answer | {"video": base64.b64encode(smaller).decode("ascii")}


def _inline_size(content: bytes, answer: dict[str, Any]) -> int:
    """`answer_size` with the video as base64, which JSON does not escape, without building it."""
    return answer_size(answer | {"video": ""}) + 4 * ((len(content) + 2) // 3)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
