"""Which model files can be chosen, where each of them lies, and how ComfyUI reads them."""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.memory_management
import folder_paths

from ...rules.errors import InvalidInput
from ...rules.files.close_name import not_in_list
from ...rules.files.safetensors_header import SUFFIXES

GGUF_LOADER = "UnetLoaderGGUF"  # node of ComfyUI-GGUF
EXPERT_FOLDERS = ("diffusion_models", "checkpoints")  # ComfyUI reads the folder "unet" as diffusion_models


@dataclass(frozen=True)
class ModelFile:
    """A model file: its folder in ComfyUI's terms, and its name inside that folder."""

    folder: str
    name: str

    @property
    def path(self) -> Path:
        return Path(folder_paths.get_full_path_or_raise(self.folder, self.name))


def maps_files() -> bool:
    """Whether ComfyUI maps safetensors files (dynamic VRAM) instead of reading them with the safetensors library."""
    return bool(comfy.memory_management.aimdo_enabled)


def gguf_loader() -> type[Any] | None:
    """The loader node class of ComfyUI-GGUF, or None where that pack is not installed."""
    loader: type[Any] | None = importlib.import_module("nodes").NODE_CLASS_MAPPINGS.get(GGUF_LOADER)
    return loader


def expert_files() -> dict[str, ModelFile]:
    """All files that can hold an expert: the name shown -> the file.

    A name is the path inside its folder. Where two folders hold the same name, the first folder (diffusion_models,
    then GGUF, then checkpoints) owns it and the other shows as `name [checkpoints]`, unless both are one file. This
    runs often, on network volumes too, so that it asks the disk about equal names only.
    """
    listed: dict[str, ModelFile] = {}
    for folder, names in _folders():
        for name in names:
            file = ModelFile(folder, name)
            if name not in listed:
                listed[name] = file
            elif not _is_one_file(listed[name], file):
                listed[f"{name} [{folder}]"] = file
    return listed


def expert_file(input_name: str, name: str) -> Path:
    """The path behind a name of the list; raises InvalidInput, one sentence, when the list does not have it."""
    return find_expert(input_name, name).path


def find_expert(input_name: str, name: str) -> ModelFile:
    """The file behind a name of the list; raises InvalidInput, one sentence, when the list does not have it."""
    files = expert_files()
    if name not in files or not _exists(files[name]):
        if _is_gguf(name) and gguf_loader() is None:
            raise InvalidInput(f"{input_name}: {name!r} needs the ComfyUI-GGUF node pack, which is not installed.")
        raise InvalidInput(not_in_list(input_name, name, [listed for listed in files if listed != name]))
    return files[name]


def lora_files() -> list[str]:
    """The LoRA files that can be chosen, safetensors only."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(SUFFIXES)]


def lora_file(input_name: str, name: str) -> Path:
    """The file behind a LoRA's name; raises InvalidInput, one sentence, when the list does not have it."""
    return _listed_file("loras", lora_files(), input_name, name)


def text_encoder_files() -> list[str]:
    """The text encoders that can be chosen; ComfyUI reads the folder "clip" as text_encoders."""
    return [name for name in folder_paths.get_filename_list("text_encoders") if not _is_gguf(name)]


def text_encoder_file(input_name: str, name: str) -> Path:
    """The file behind a text encoder's name; raises InvalidInput, one sentence, when the list does not have it."""
    if _is_gguf(name):
        raise InvalidInput(
            f"{input_name}: {name!r} is a GGUF file, which ComfyUI-GGUF's CLIPLoader (GGUF) reads: set its type to wan "
            "and use two CLIP Text Encode nodes instead of this one, or choose a safetensors file here."
        )
    return _listed_file("text_encoders", text_encoder_files(), input_name, name)


def state_of(path: Path) -> tuple[str, int, int]:
    """What changes when a file is replaced: its path, size and time of change."""
    stat = path.stat()
    return (str(path), stat.st_size, stat.st_mtime_ns)


def _exists(file: ModelFile) -> bool:
    return folder_paths.get_full_path(file.folder, file.name) is not None


def _is_one_file(first: ModelFile, second: ModelFile) -> bool:
    try:
        return os.path.samefile(first.path, second.path)
    except OSError:  # a link to nowhere must not take the whole list down
        return False


def _folders() -> list[tuple[str, list[str]]]:
    first, *others = EXPERT_FOLDERS
    folders = [(first, _safetensors(first))]
    if gguf_loader() is not None and "unet_gguf" in folder_paths.folder_names_and_paths:
        folders.append(("unet_gguf", folder_paths.get_filename_list("unet_gguf")))
    return [*folders, *((folder, _safetensors(folder)) for folder in others)]


def _safetensors(folder: str) -> list[str]:
    return [name for name in folder_paths.get_filename_list(folder) if name.lower().endswith(SUFFIXES)]


def _listed_file(folder: str, names: list[str], input_name: str, name: str) -> Path:
    path = folder_paths.get_full_path(folder, name) if name in names else None
    if path is None:
        raise InvalidInput(not_in_list(input_name, name, [listed for listed in names if listed != name]))
    return Path(path)


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")
