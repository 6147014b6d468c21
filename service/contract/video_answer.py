"""The answer of a job that made a video: one declaration for the worker, its clients and the documentation."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field


class Timings(BaseModel):
    """Seconds. The job's own are always there, but for `loras_s`; the experts' where the sampler reports them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image_s: float | None = Field(None, description="from the job's arrival until its images were there and checked")
    loras_s: float | None = Field(None, description="until the LoRAs that have URLs were there too, if there are some")
    ready_s: float | None = Field(None, description="from the job's arrival until ComfyUI answered")
    comfyui_s: float | None = Field(None, description="from queued in ComfyUI to finished")
    total_s: float | None = Field(None, description="from the job's arrival to the answer")
    opening_s: float | None = Field(None, description="of sampling with the opening leg")
    high_noise_s: float | None = Field(None, description="of sampling with the high-noise expert")
    low_noise_s: float | None = Field(None, description="of sampling with the low-noise expert")


class ModelUse(BaseModel):
    """One model file that the workflow names."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: str = Field(
        description="`text_encoder`, `vae`, `high_noise`, `low_noise`, `high_noise_lora` or `low_noise_lora`; of any "
        "other node, the input's name"
    )
    file: str = Field(description="the name that the workflow has")
    bytes: int | None = Field(description="its size; null where the worker did not find it")
    sha256: str | None = Field(description="of its content; null until it is known")


class SeriesVideo(BaseModel):
    """One of several videos of a job: a file in one of two forms, or why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(description="the seed that was used, or would have been")
    video: str | None = Field(default=None, description="the file as raw base64, no prefix")
    video_url: str | None = Field(default=None, description="in its place when the file went to the bucket")
    last_frame: str | None = Field(default=None, description="of `return_last_frame`: a PNG as raw base64")
    last_frame_url: str | None = Field(default=None, description="in its place when it went to the bucket")
    error: str | None = Field(
        default=None, description="why there is neither: `CODE: one sentence`, as of a failed job"
    )
    timings: Timings | None = Field(
        default=None, description="`comfyui_s` and the experts' seconds of this video alone"
    )


class SegmentLora(BaseModel):
    """Of a tag `<lora:name:strength>` in a segment's prompt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    high_noise_strength: float
    low_noise_strength: float


class SegmentUse(BaseModel):
    """One segment of a long video."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str | None = Field(None, description="its own, where it had one")
    length: int = Field(description="its frames, with the one that it shares with the segment before")
    seed: int = Field(description="the seed that was used")
    loras: list[SegmentLora] | None = Field(
        None, description="of the tags in its prompt: `name`, `high_noise_strength` and `low_noise_strength`"
    )
    opening_s: float | None = Field(None, description="seconds of sampling with the opening leg")
    high_noise_s: float | None = Field(None, description="seconds of sampling with the high-noise expert")
    low_noise_s: float | None = Field(None, description="seconds of sampling with the low-noise expert")


class VideoAnswer(BaseModel):
    """What was made, and with which values: those that were used, not those that were asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: str | None = Field(None, description="the file as raw base64, no prefix")
    video_url: str | None = Field(None, description="in its place when the file went to the bucket; lives seven days")
    last_frame: str | None = Field(None, description="of `return_last_frame`: a PNG as raw base64, no prefix")
    last_frame_url: str | None = Field(None, description="in its place when it went to the bucket; lives seven days")
    videos: list[SeriesVideo] | None = Field(
        None, description="of a request with `seeds` or `num_videos`: every video in their order, see below"
    )
    seed: int = Field(description="the seed that was used, also when it was drawn")
    width: int = Field(description="pixels of the file")
    height: int = Field(description="pixels of the file")
    length: int = Field(description="frames of the file")
    fps: float | int = Field(description="frames a second of the file")
    duration: float = Field(description="seconds of the file")
    workflow: str = Field(description="which workflow ran")
    prompt: str | None = Field(None, description="as it was encoded, after everything that changed it")
    negative_prompt: str | None = Field(None, description="likewise, if there was one")
    models: list[ModelUse] | None = Field(None, description="the model files, in the order of use: see below")
    steps: int | None = Field(None, description="sampling steps over both experts")
    switch: str | None = Field(None, description="what handed over: `boundary` or `step`")
    switch_step: int | None = Field(None, description="first step of the low-noise expert")
    boundary: float | None = Field(None, description="noise level of the hand-over, when switch is `boundary`")
    sampler: str | None = Field(None, description="as it ran")
    scheduler: str | None = Field(None, description="as it ran")
    shift: float | None = Field(None, description="flow shift")
    high_noise_cfg: float | None = Field(None, description="guidance scale of the high-noise expert")
    low_noise_cfg: float | None = Field(None, description="guidance scale of the low-noise expert")
    opening_steps: int | None = Field(None, description="steps of the opening leg, if there was one")
    opening_cfg: float | None = Field(None, description="its guidance scale")
    nag_scale: float | None = Field(None, description="of the guidance away from the negative prompt, if it was on")
    sizing: str | None = Field(None, description="`fixed` or `match image`")
    fit: str | None = Field(None, description="how an image of another aspect was fitted")
    loop: bool | None = Field(None, description="true where the video ends where it begins")
    upscale_model: str | None = Field(None, description="the model file that made the frames larger, if any")
    upscale_factor: float | None = Field(None, description="how many times as wide and high it made them")
    interpolation: str | None = Field(
        None, description="what made the frames in between, if any: the model file's name, or `minterpolate`"
    )
    interpolation_factor: int | None = Field(None, description="pieces of each step between two generated frames")
    frame_order: str | None = Field(None, description="`reverse` or `ping-pong`, if it was not forward")
    segments: list[SegmentUse] | None = Field(None, description="of a long video: see below")
    format: str = Field(description="MIME type of the file")
    warnings: list[str] = Field(description="a sentence for everything that was rounded, cropped or ignored")
    timings: Timings = Field(description="see below")

    def with_warning(self, sentence: str) -> Self:
        return self.model_copy(update={"warnings": [*self.warnings, sentence]})

    def to_wire(self) -> dict[str, Any]:
        """The JSON object under `output`: every field that was set, null where a value is not known."""
        return self.model_dump(mode="json", exclude_unset=True)
