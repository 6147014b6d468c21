"""The files' way to the caller in the stock ComfyUI worker's shape: `images`, and our `video` beside it.

A bucket is used wherever there is one, as the stock worker does; and what does not fit the platform's answer goes the
ways of delivery.py, or not at all.
"""

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any

from ..contract.errors import JobError
from ..contract.graph_answer import GraphAnswer, OutputItem
from ..contract.graph_request import GraphFields
from ..media.bucket import Bucket, UploadFailed
from ..media.shrink import shrink_video
from .delivery import answer_size, megabytes, re_encoded, too_large, upload
from .graph_answer import first_video
from .output_files import OutputFile

NO_BUCKET = "no bucket is configured on this worker"
VIDEO_ONCE = "the answer would be too large with video beside images, so the video is under images alone"


async def deliver_files(
    files: Sequence[OutputFile],
    answer: GraphAnswer,
    fields: GraphFields,
    is_named: bool,
    budget: int,
    bucket: Bucket | None,
    job_id: str,
    upload_timeout_s: float,
) -> GraphAnswer:
    """The answer with every file in it, within `budget` bytes of JSON.

    `is_named` is for one of the operator's workflows, whose clients look for `video` first. Raises JobError
    RESULT_TOO_LARGE or UPLOAD_FAILED rather than return what the platform would drop.
    """
    links: list[str] = []
    upload_error = NO_BUCKET if bucket is None and fields.delivery == "url" else None
    if bucket is not None and fields.delivery != "base64":
        links, upload_error = await _uploaded(files, bucket, job_id, upload_timeout_s)
    items = _items(files, links)
    said = answer.with_warning(f"{upload_error}, so it came as base64") if upload_error and files else answer
    whole = _fitting(files, items, said, is_named, budget)
    if whole is not None:
        return whole
    if fields.shrink and len(links) < len(files):
        shrunk = await _shrunk(files, items, answer.with_warning(upload_error) if upload_error else answer, budget)
        whole = None if shrunk is None else _fitting(files, *shrunk, is_named, budget)
        if whole is not None:
            return whole
    size = answer_size(said.model_copy(update={"images": items}))
    if upload_error:
        sentence = f"{upload_error}, and {megabytes(size)} is too large for the answer"
        raise JobError("UPLOAD_FAILED", sentence)
    raise too_large(size, budget)


async def _uploaded(
    files: Sequence[OutputFile], bucket: Bucket, job_id: str, timeout_s: float
) -> tuple[list[str], str | None]:
    """Links to the first files, as far as the bucket took them within the time, and why not to all."""
    links: list[str] = []
    deadline = time.monotonic() + timeout_s
    try:
        for file in files:
            links.append(await upload(file, bucket, job_id, max(0.1, deadline - time.monotonic())))
    except UploadFailed as error:
        file = files[len(links)]
        return links, f"the bucket did not take {'the video' if file.is_video else file.filename}: {error}"
    return links, None


def _items(files: Sequence[OutputFile], links: Sequence[str]) -> list[OutputItem]:
    sent = [
        OutputItem(filename=file.filename, type="s3_url", data=link) for file, link in zip(files, links, strict=False)
    ]
    return sent + [_inline(file, file.content) for file in files[len(links) :]]


def _inline(file: OutputFile, content: bytes) -> OutputItem:
    return OutputItem(filename=file.filename, type="base64", data=base64.b64encode(content).decode("ascii"))


def _fitting(
    files: Sequence[OutputFile], items: list[OutputItem], answer: GraphAnswer, is_named: bool, budget: int
) -> GraphAnswer | None:
    """With the first video under `video` as well; where that is too much, under the one key that its client reads."""
    video = first_video(files)
    in_images: dict[str, Any] = {"images": items}
    if video is None:
        ways = [in_images]
    else:
        place = list(files).index(video)
        as_video = {"video_url" if items[place].type == "s3_url" else "video": items[place].data}
        others = [item for number, item in enumerate(items) if number != place]
        in_images_alone = in_images | {"warnings": [*answer.warnings, VIDEO_ONCE]}
        ways = [in_images | as_video, {"images": others} | as_video if is_named else in_images_alone]
    answers = (answer.model_copy(update=way) for way in ways)
    return next((each for each in answers if answer_size(each) <= budget), None)


async def _shrunk(
    files: Sequence[OutputFile], items: list[OutputItem], answer: GraphAnswer, budget: int
) -> tuple[list[OutputItem], GraphAnswer] | None:
    """The largest video that is not in the bucket re-encoded once, for an answer that has it once."""
    videos = [n for n, file in enumerate(files) if file.is_video and items[n].type == "base64"]
    if not videos:
        return None
    place = max(videos, key=lambda n: len(files[n].content))
    file, without = files[place], list(items)
    answer = answer.with_warning(re_encoded(len(file.content)))
    without[place] = _inline(file, b"")
    noted = answer.with_warning(VIDEO_ONCE).model_copy(update={"images": without})
    room = (budget - answer_size(noted)) * 3 // 4
    smaller = await asyncio.to_thread(shrink_video, file.content, file.suffix, room)
    if smaller is None:
        return None
    without[place] = _inline(file, smaller)
    return without, answer
