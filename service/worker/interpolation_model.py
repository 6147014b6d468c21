"""Which file of the worker's makes the frames in between."""

import os
from pathlib import Path

from .interpolation import InterpolationModel
from .model_files.places import find_model, model_folders
from .settings import Settings
from .workflow import ModelFile

FOLDER = "frame_interpolation"
SUFFIXES = (".safetensors", ".sft", ".pth", ".pt", ".pt2", ".ckpt", ".bin", ".pkl")


def find_interpolation_model(network: str, settings: Settings) -> InterpolationModel | None:
    """The operator's file for `film` or `rife`, named as ComfyUI lists it; None where there is none.

    The setting's file counts first, then the first whose name tells its network, then a file of the other network.
    """
    if network == "none":
        return None
    networks = ("film", "rife") if network == "film" else ("rife", "film")
    found = ((_file_of(name, settings), name) for name in networks)
    return next((InterpolationModel(file, name) for file, name in found if file), None)


def _file_of(network: str, settings: Settings) -> str | None:
    folders = model_folders(settings)
    named = settings.film if network == "film" else settings.rife
    if named and find_model(ModelFile(named, (FOLDER,)), folders):
        return named
    names = sorted({name for folder in folders[FOLDER] for name in _names(folder)})
    return next((name for name in names if network in name.lower()), None)


def _names(folder: Path) -> list[str]:
    """The files below `folder`, through links as ComfyUI looks."""
    return [
        Path(place, name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]
