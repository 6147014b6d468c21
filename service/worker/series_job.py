"""Several videos of one request, a seed each: files are fetched once, and ComfyUI keeps what no seed changes.

The prompt is queued again with the next seed. To the same ComfyUI every node before the sampler is known then, so that
images, text encoder and experts are neither read nor computed again.
"""

import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from ..contract.errors import JobError
from ..contract.video_answer import SeriesVideo, Timings, VideoAnswer
from .delivery import answer_size
from .video_job import VideoJob

OWN_TIMINGS = {"comfyui_s", "opening_s", "high_noise_s", "low_noise_s"}


class PartOfSeriesError(JobError):
    """The job ended by this error, and some of its videos were made: `answer` has them."""

    def __init__(self, error: JobError, answer: VideoAnswer) -> None:
        super().__init__(error.code, error.sentence, error.field, refresh_worker=error.refresh_worker)
        self.answer = answer


class SeriesJob(VideoJob):
    """A VideoJob for all seeds of its request; `budget` is the bytes of JSON that the answer may have."""

    def __init__(self, budget: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._budget = budget
        self._answers: list[VideoAnswer] = []

    async def run(self) -> VideoAnswer:
        images = await self._prepared()
        for number, seed in enumerate(self._seeds, 1):
            self._follower.video(number, len(self._seeds), in_the_bucket(self._answers))
            self._answers.append(await self._video(images, seed))
        return self._together(None)

    def ended_by(self, error: JobError) -> JobError:
        return PartOfSeriesError(error, self._together(error)) if self._answers else error

    async def clean_up(self) -> None:
        """Also says in the log what a cancelled job had made, which nobody is answered any more."""
        await super().clean_up()
        if 0 < len(self._answers) < len(self._seeds):
            made = ", ".join(f"seed {one.seed}{_place(one.video_url)}" for one in self._answers)
            print(f"job {self._job_id}: of {len(self._seeds)} videos, made were {made}", file=sys.stderr, flush=True)

    def _together(self, error: JobError | None) -> VideoAnswer:
        self._note("total_s", self._started)
        return one_answer(self._seeds, self._answers, error, self._timings["total_s"], self._budget)


def _place(link: str | None) -> str:
    """Where in the bucket, without the permission that the link carries."""
    return f" ({urlsplit(link).path})" if link else ""


class Room:
    """The bytes that are left of an answer for the videos that are still to come."""

    def __init__(self, budget: int, count: int) -> None:
        self._left = budget
        self._count = count

    def share(self) -> int:
        """Of the next video: an equal part, with what those before it did not need."""
        return max(0, self._left) // max(1, self._count)

    def take(self, size: int) -> None:
        self._left -= size
        self._count -= 1


def in_the_bucket(answers: Sequence[VideoAnswer]) -> list[SeriesVideo]:
    return [SeriesVideo(seed=one.seed, video_url=one.video_url) for one in answers if one.video_url]


def one_answer(
    seeds: Sequence[int], answers: Sequence[VideoAnswer], error: JobError | None, total_s: float | None, budget: int
) -> VideoAnswer:
    """The first video's answer, with all of them under `videos`, those too that `error` kept from being made.

    The first one's file stays where it is for a single video, unless it does not fit `budget` bytes twice.
    """
    first, count = answers[0], len(seeds)
    videos = [_item(answer) for answer in answers]
    warnings = list(first.warnings)
    for number, answer in enumerate(answers[1:], 2):
        warnings += [f"video {number}: {sentence}" for sentence in answer.warnings if sentence not in first.warnings]
    if error is not None:
        failed = len(answers) + 1
        videos.append(SeriesVideo(seed=seeds[failed - 1], error=str(error)))
        sentence = f"{error.code}: not begun, because video {failed} of {count} failed"
        videos += [SeriesVideo(seed=seed, error=sentence) for seed in seeds[failed:]]
        warnings.append(f"{len(answers)} of {count} videos were made, then: {error}")
    timings = first.timings.model_copy(update={"total_s": total_s})
    whole = first.model_copy(update={"videos": videos, "warnings": warnings, "timings": timings})
    for name, words in (("last_frame", "last frame"), ("video", "video")):
        if getattr(whole, name) is not None and answer_size(whole) > budget:
            whole = VideoAnswer(**{other: getattr(whole, other) for other in whole.model_fields_set - {name}})
            sentence = f"the answer would be too large with the first {words} twice, so it is under videos alone"
            whole = whole.with_warning(sentence)
    return whole


def _item(answer: VideoAnswer) -> SeriesVideo:
    timings = Timings(**answer.timings.model_dump(include=OWN_TIMINGS, exclude_unset=True))
    file = {"video": answer.video} if answer.video_url is None else {"video_url": answer.video_url}
    frame = answer.model_dump(include={"last_frame", "last_frame_url"}, exclude_unset=True)
    return SeriesVideo(seed=answer.seed, timings=timings, **file, **frame)
