"""What a job says about itself while it runs."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from .video_answer import SeriesVideo

Expert = Literal["opening", "high_noise", "low_noise"]
Stage = Literal["downloading", "waiting", "loading", "sampling", "decoding", "upscaling", "interpolating", "saving"]
AFTER_SAMPLING = ("decoding", "upscaling", "interpolating", "saving")


class Progress(BaseModel):
    """Where a job is. A RunPod endpoint tells of the sampler's steps alone, an executor of every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage = Field(
        default="sampling",
        description="what is being done: `downloading` (LoRAs), `waiting` (for ComfyUI), `loading` (models, "
        "pictures, prompts), `sampling`, `decoding` (of the latent), `upscaling` and `interpolating` (of "
        "the frames, where that was asked for), the last of them also while a video is made of the frames, `saving`",
    )
    step: int = Field(description="steps done")
    steps: int = Field(description="steps in all, 0 until they are known")
    progress: float = Field(
        description="the share of the steps that is done, 0 to 1; of all videos where they are several"
    )
    expert: Expert | None = Field(
        default=None, description="whose step it was, of a pair: `opening`, `high_noise` or `low_noise`"
    )
    node: str | None = Field(
        default=None, description="title of the node whose steps these are, of a workflow of the client's own"
    )
    video: int | None = Field(default=None, description="which of several videos this is about, from 1")
    videos: int | None = Field(default=None, description="how many the job makes")
    made: list[SeriesVideo] | None = Field(
        default=None, description="those that lie in the bucket already: `seed` and `video_url` of each"
    )
    seconds_left: float | None = Field(
        default=None, description="what the steps that are left will take, at the pace of those that are done"
    )

    @classmethod
    def of_step(
        cls, step: int, steps: int, switch_step: int | None, opening_steps: int = 0, node: str | None = None
    ) -> Self:
        """`step` of `steps` is done; `switch_step` is the first low-noise one, None for a single model."""
        expert: Expert | None = None
        if step <= opening_steps:
            expert = "opening"
        elif switch_step is not None:
            expert = "high_noise" if step <= switch_step else "low_noise"
        return cls(step=step, steps=steps, progress=round(step / steps, 3), expert=expert, node=node)

    @classmethod
    def of_stage(cls, stage: Stage, steps: int) -> Self:
        """No step of the sampler: none of `steps` is done before it, and all of them after."""
        is_sampled = stage in AFTER_SAMPLING
        return cls(stage=stage, step=steps if is_sampled else 0, steps=steps, progress=float(is_sampled))

    def of_several(self, video: int, videos: int, made: Sequence[SeriesVideo]) -> Self:
        """The same about `video` (from 1) of `videos`, when `made` lie in the bucket."""
        share = round((video - 1 + self.progress) / videos, 3)
        told = {"video": video, "videos": videos, "progress": share} | ({"made": list(made)} if made else {})
        return self.model_copy(update=told)

    def to_wire(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)
