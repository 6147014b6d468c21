"""Which model files can be chosen, and where each of them lies."""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths

from ..rules.errors import InvalidInput

GGUF_LOADER = "UnetLoaderGGUF"  # node of ComfyUI-GGUF
EXPERT_FOLDERS = ("diffusion_models", "checkpoints")  # ComfyUI reads the folder "unet" as diffusion_models
SAFETENSORS = (".safetensors", ".sft")


@dataclass(frozen=True)
class ModelFile:
    """A model file: its folder in ComfyUI's terms, its name inside that folder, and its place on the disk."""

    folder: str
    name: str
    path: Path


def gguf_loader() -> type[Any] | None:
    """The loader node class of ComfyUI-GGUF, or None where that pack is not installed."""
    loader: type[Any] | None = importlib.import_module("nodes").NODE_CLASS_MAPPINGS.get(GGUF_LOADER)
    return loader


def expert_files() -> dict[str, ModelFile]:
    """All files that can hold an expert: the name shown -> the file.

    A name is the path inside its folder. Where two folders hold the same name, the first folder (diffusion_models,
    then GGUF, then checkpoints) owns it and the other shows as `name [checkpoints]`; a file that is reached through two
    folders shows once.
    """
    listed: dict[str, ModelFile] = {}
    seen: set[str] = set()
    for folder, names in _folders():
        for name in names:
            path = folder_paths.get_full_path(folder, name)
            if path is None or os.path.realpath(path) in seen:
                continue
            seen.add(os.path.realpath(path))
            listed[name if name not in listed else f"{name} [{folder}]"] = ModelFile(folder, name, Path(path))
    return listed


def expert_file(input_name: str, name: str) -> Path:
    """The path behind a name of the list; raises InvalidInput, one sentence, when the list does not have it."""
    return find_expert(input_name, name).path


def find_expert(input_name: str, name: str) -> ModelFile:
    """The file behind a name of the list; raises InvalidInput, one sentence, when the list does not have it."""
    files = expert_files()
    if name not in files:
        raise InvalidInput(_not_in_list(input_name, name, list(files)))
    return files[name]


def lora_files() -> list[str]:
    """The LoRA files that can be chosen, safetensors only."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(SAFETENSORS)]


def lora_file(input_name: str, name: str) -> Path:
    """The file behind a LoRA's name; raises InvalidInput, one sentence, when the list does not have it."""
    path = folder_paths.get_full_path("loras", name) if name in lora_files() else None
    if path is None:
        raise InvalidInput(_not_in_list(input_name, name, lora_files()))
    return Path(path)


def state_of(path: Path) -> tuple[str, int, int]:
    """What changes when a file is replaced: its path, size and time of change."""
    stat = path.stat()
    return (str(path), stat.st_size, stat.st_mtime_ns)


def _folders() -> list[tuple[str, list[str]]]:
    first, *others = EXPERT_FOLDERS
    folders = [(first, _safetensors(first))]
    if gguf_loader() is not None and "unet_gguf" in folder_paths.folder_names_and_paths:
        folders.append(("unet_gguf", folder_paths.get_filename_list("unet_gguf")))
    return [*folders, *((folder, _safetensors(folder)) for folder in others)]


def _safetensors(folder: str) -> list[str]:
    return [name for name in folder_paths.get_filename_list(folder) if name.lower().endswith(SAFETENSORS)]


def _not_in_list(input_name: str, name: str, choices: list[str]) -> str:
    if name.lower().endswith(".gguf") and gguf_loader() is None:
        return f"{input_name}: {name!r} needs the ComfyUI-GGUF node pack, which is not installed."
    shown = str(choices) if len(choices) <= 20 else f"(list of length {len(choices)})"
    return f"{input_name}: {name!r} not in {shown}"
