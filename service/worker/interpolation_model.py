"""Which file of the worker's makes the frames in between."""

from .interpolation import InterpolationModel
from .model_files.places import find_model, listed, model_folders
from .settings import Settings
from .workflow import ModelFile

FOLDER = "frame_interpolation"


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
    return next((name for name in listed(FOLDER, folders) if network in name.lower()), None)
