"""The video's last frame as a PNG, to go on from: as it was before the video's codec."""

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from ..contract.video_answer import VideoAnswer
from ..contract.video_request import VideoRequest
from ..media.bucket import Bucket, UploadFailed
from .delivery import answer_size, upload
from .graph_nodes import Graph
from .output_files import OutputFile, find_files

SAVE_IMAGE = "SaveImage"  # core's
NODE_ID = "wan_relay_last_frame"
LAST_FRAME_OUTPUT = 1  # of Save Video
WORDS = 300  # bytes that a warning beside the frame may take


def add_last_frame(graph: Graph, save: str, request: VideoRequest, prefix: str) -> None:
    """Saves the last frame beside the video, under `prefix`.

    Save Image cuts off what is below a whole level, which would make each clip that goes on from there darker: so half
    a level is added before. Core has a node that subtracts and none that adds, so it is taken from the negative.
    """
    if not request.return_last_frame:
        return
    negative, less, lighter = (f"{NODE_ID}_{part}" for part in ("negative", "less", "lighter"))
    graph |= {
        negative: _node("ImageInvert", image=[save, LAST_FRAME_OUTPUT]),
        less: _node("NormalizeImages", images=[negative, 0], mean=0.5 / 255, std=1.0),
        lighter: _node("ImageInvert", image=[less, 0]),
        NODE_ID: _node(SAVE_IMAGE, images=[lighter, 0], filename_prefix=f"{prefix}_last_frame"),
    }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "_meta": {"title": "Last frame"}, "inputs": inputs}


def find_last_frame(outputs: dict[str, Any], output_directory: Path) -> OutputFile | None:
    """Without the workflow that ComfyUI writes into its pictures; None where there is no picture that can be read."""
    plain = io.BytesIO()
    try:
        [file] = find_files({NODE_ID: outputs.get(NODE_ID)}, output_directory)
        with Image.open(io.BytesIO(file.content)) as picture:
            picture.convert("RGB").save(plain, "PNG")
    except Exception:  # none is there, or one of the many that Pillow has for a damaged file
        return None
    return OutputFile(plain.getvalue(), ".png", {}, "last_frame.png")


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
            return answer.model_copy(update={"last_frame_url": await upload(frame, bucket, job_id, upload_timeout_s)})
        except UploadFailed as error:
            reason = f"the bucket did not take it: {error}"
    if fits:
        answer = answer.with_warning(f"last_frame came as base64: {reason}") if reason else answer
        return answer.model_copy(update={"last_frame": encoded})
    because = f": {reason}" if reason else ""
    return answer.with_warning(f"last_frame has {len(encoded) / 1e6:.1f} MB as base64 and was left out{because}")
