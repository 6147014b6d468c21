"""Which file of the worker's makes frames larger."""

from typing import TypeVar

from ..contract.errors import JobError
from ..contract.video_request import VideoRequest
from .model_files.places import listed, model_folders
from .settings import Settings

Request = TypeVar("Request", bound=VideoRequest)
FOLDER = "upscale_models"


def with_upscale_model(request: Request, settings: Settings) -> Request:
    """The request with the file that is used: its own, else the setting's, else the first by name. Raises JobError."""
    if not request.is_upscaled:
        return request
    names = listed(FOLDER, model_folders(settings))
    asked = request.upscale_model
    if asked is not None and asked not in names:
        there = ", ".join(names[:5]) or "there are none"
        sentence = f"upscale_model must be a file in this worker's {FOLDER} folder: {there}"
        raise JobError("FILE_NOT_FOUND", sentence, "upscale_model")
    if asked is None and settings.upscale_model in names:
        asked = settings.upscale_model
    if asked is None and not names:
        sentence = f"upscale_factor needs a model file, such as RealESRGAN_x2plus.pth, in this worker's {FOLDER} folder"
        raise JobError("MODEL_MISSING", sentence, "upscale_factor")
    return request.model_copy(update={"upscale_model": asked or names[0]})
