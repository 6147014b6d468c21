"""The answer to a workflow of the client's own: RunPod's stock ComfyUI worker's, with ours beside it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .video_answer import VideoAnswer


class OutputItem(BaseModel):
    """One saved file, as the stock worker lists it."""

    model_config = ConfigDict(frozen=True)

    filename: str = Field(description="as the node saved it")
    type: Literal["base64", "s3_url"] = Field(description="what `data` is")
    data: str = Field(description="raw base64 without a prefix, or a link")


class GraphAnswer(VideoAnswer):
    """Like a bundled workflow's answer, where a value is known; else without it."""

    images: list[OutputItem] = Field(description="every file that was saved, videos too, in the order of the nodes")
    status: Literal["success_no_images"] | None = Field(None, description="sent where no node saved a file")
    seed: int = Field(0, description="the first node's seed")
    width: int = Field(0, description="pixels of the first video")
    height: int = Field(0, description="pixels of the first video")
    length: int = Field(0, description="frames of the first video")
    fps: float | int = Field(0, description="frames a second of the first video")
    duration: float = Field(0, description="seconds of the first video")
    format: str = Field("", description="MIME type of the first video")
