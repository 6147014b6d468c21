"""The video's last frame as a PNG, to go on from: as it was before the video's codec."""

import base64
import io
import os
import time
import uuid
from pathlib import Path
from typing import Any

from PIL import Image

from ..contract.video_answer import VideoAnswer
from ..contract.video_request import VideoRequest
from ..media.bucket import Bucket, UploadFailed, upload_video
from .delivery import answer_size
from .output_files import OutputFile

SAVE_IMAGE = "SaveImage"  # core's
NODE_ID = "wan_relay_last_frame"
LAST_FRAME_OUTPUT = 1  # of Save Video
WORDS = 300  # bytes that a warning beside the frame may take

Graph = dict[str, dict[str, Any]]


def add_last_frame(graph: Graph, save: str, request: VideoRequest, prefix: str) -> None:
    """Saves the last frame beside the video, under `prefix`."""
    if request.return_last_frame:
        graph[NODE_ID] = {
            "class_type": SAVE_IMAGE,
            "_meta": {"title": "Last frame"},
            "inputs": {"images": [save, LAST_FRAME_OUTPUT], "filename_prefix": f"{prefix}_last_frame"},
        }


def find_last_frame(outputs: dict[str, Any], output_directory: Path) -> OutputFile | None:
    """Without the workflow that ComfyUI writes into its pictures; None where there is no picture that can be read."""
    root = os.path.realpath(output_directory)
    for item in (outputs.get(NODE_ID) or {}).get("images") or ():
        path = os.path.realpath(os.path.join(root, str(item.get("subfolder") or ""), str(item.get("filename") or "")))
        if os.path.commonpath((root, path)) != root:
            continue
        try:
            with Image.open(path) as picture:
                pixels = picture.convert("RGB")
        except Exception:  # Pillow has many for a damaged file
            continue
        plain = io.BytesIO()
        pixels.save(plain, "PNG")
        return OutputFile(plain.getvalue(), ".png", {}, "last_frame.png")
    return None


async def deliver_last_frame(
    frame: OutputFile | None,
    answer: VideoAnswer,
    request: VideoRequest,
    budget: int,
    bucket: Bucket | None,
    job_id: str,
    upload_timeout_s: float,
) -> VideoAnswer:
    """The answer, which has its video, with the frame too: base64 in what that leaves of `budget` bytes of JSON, or by
    the bucket where the request or the size asks for that. One that cannot be delivered is a warning.
    """
    if frame is None:
        return (
            answer.with_warning("return_last_frame: ComfyUI saved no last frame")
            if request.return_last_frame
            else answer
        )
    encoded = base64.b64encode(frame.content).decode("ascii")
    fits = answer_size(answer.model_copy(update={"last_frame": encoded})) + WORDS <= budget
    wants_url = request.delivery == "url" or (request.delivery == "auto" and not fits)
    reason = "no bucket is configured on this worker" if wants_url else ""
    if wants_url and bucket is not None:
        try:
            key = f"{time.strftime('%Y-%m-%d', time.gmtime())}/{job_id}/{uuid.uuid4().hex[:12]}{frame.suffix}"
            url = await upload_video(bucket, key, frame.content, frame.mime_type, upload_timeout_s)
            return answer.model_copy(update={"last_frame_url": url})
        except Exception as error:
            reason = f"the bucket did not take it: {error if isinstance(error, UploadFailed) else type(error).__name__}"
    if fits:
        answer = answer.with_warning(f"last_frame came as base64: {reason}") if reason else answer
        return answer.model_copy(update={"last_frame": encoded})
    because = f": {reason}" if reason else ""
    return answer.with_warning(f"last_frame has {len(encoded) / 1e6:.1f} MB as base64 and was left out{because}")
