"""Which file of the worker's makes frames larger."""

from collections.abc import Sequence
from typing import TypeVar

from ..contract.errors import JobError
from ..contract.video_request import VideoRequest
from .model_files.places import listed, model_folders
from .settings import Settings
from .upscaling import MODEL_LOADER
from .workflow import ModelFile, bundled

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
    asked = asked or _usual(names, settings)
    if asked is None:
        sentence = f"upscale_factor needs a model file, such as RealESRGAN_x2plus.pth, in this worker's {FOLDER} folder"
        raise JobError("MODEL_MISSING", sentence, "upscale_factor")
    return request.model_copy(update={"upscale_model": asked})


def upscale_files(workflow: str, settings: Settings) -> list[ModelFile]:
    """What a bundled workflow that upscales reads: the worker's usual file, else the one that the workflow names."""
    graph = bundled(workflow, settings)
    named = [node["inputs"]["model_name"] for node in graph.values() if node["class_type"] == MODEL_LOADER]
    usual = _usual(listed(FOLDER, model_folders(settings)), settings)
    return [ModelFile(usual or name, (FOLDER,)) for name in named]


def _usual(names: Sequence[str], settings: Settings) -> str | None:
    """Of the files that there are."""
    return settings.upscale_model if settings.upscale_model in names else next(iter(names), None)
