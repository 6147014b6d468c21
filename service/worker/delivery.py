"""The video's way to the caller: in the answer, by the bucket, or smaller; whatever the platform can carry."""

import asyncio
import base64
import json
import time
import uuid

from ..contract.errors import JobError
from ..contract.video_answer import VideoAnswer
from ..contract.video_request import VideoRequest
from ..media.bucket import Bucket, UploadFailed, upload_video
from ..media.shrink import shrink_video
from .saved_video import Video


def answer_size(answer: VideoAnswer) -> int:
    """Bytes of the body that the SDK posts for this answer."""
    return len(json.dumps({"output": answer.to_wire()}, ensure_ascii=False, allow_nan=False).encode())


async def deliver(
    video: Video,
    answer: VideoAnswer,
    request: VideoRequest,
    budget: int,
    bucket: Bucket | None,
    job_id: str,
    upload_timeout_s: float,
) -> VideoAnswer:
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
            return answer.model_copy(update={"video_url": await upload(video, bucket, job_id, upload_timeout_s)})
        except UploadFailed as error:
            upload_error = f"the bucket did not take the video: {error}"
    if upload_error and fits:
        answer = answer.with_warning(f"{upload_error}, so it came as base64")
        fits = (inline_size := _inline_size(video.content, answer)) <= budget
    if fits:
        return _with_video(answer, video.content)
    if request.shrink:
        if upload_error:
            answer = answer.with_warning(upload_error)
        smaller = await _shrunk(video, answer, budget)
        if smaller is not None:
            return smaller
    if upload_error:
        raise JobError("UPLOAD_FAILED", f"{upload_error}, and {megabytes(inline_size)} is too large for the answer")
    raise too_large(inline_size, budget)


async def upload(file: Video, bucket: Bucket, job_id: str, timeout_s: float) -> str:
    """The link to it, under the day and the job. Raises UploadFailed, whatever went wrong."""
    key = f"{time.strftime('%Y-%m-%d', time.gmtime())}/{job_id}/{uuid.uuid4().hex[:12]}{file.suffix}"
    try:
        return await upload_video(bucket, key, file.content, file.mime_type, timeout_s)
    except UploadFailed:
        raise
    except Exception as error:
        raise UploadFailed(type(error).__name__) from None


def too_large(size: int, budget: int) -> JobError:
    sentence = (
        f"the answer would be {megabytes(size)} and this call carries {megabytes(budget)}; "
        "lower the size or the length, raise crf, or configure a bucket"
    )
    return JobError("RESULT_TOO_LARGE", sentence)


def re_encoded(size: int) -> str:
    return f"the video was re-encoded from {megabytes(size)} to fit the answer; its quality is lower"


async def _shrunk(video: Video, answer: VideoAnswer, budget: int) -> VideoAnswer | None:
    answer = answer.with_warning(re_encoded(len(video.content)))
    room = (budget - _inline_size(b"", answer)) * 3 // 4
    smaller = await asyncio.to_thread(shrink_video, video.content, video.suffix, room)
    if smaller is None or _inline_size(smaller, answer) > budget:
        return None
    return _with_video(answer, smaller)


def _with_video(answer: VideoAnswer, content: bytes) -> VideoAnswer:
    return answer.model_copy(update={"video": base64.b64encode(content).decode("ascii")})


def _inline_size(content: bytes, answer: VideoAnswer) -> int:
    """`answer_size` with the video as base64, which JSON does not escape, without building it."""
    return answer_size(_with_video(answer, b"")) + 4 * ((len(content) + 2) // 3)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
