"""Where model files may lie, in ComfyUI's own order: the first place that has a file counts.

1. The models folder of the worker's ComfyUI (COMFYUI_BASE, or WAN_RELAY_MODELS).
2. The sections of the extra_model_paths.yaml; those about /runpod-volume once for each folder of WAN_RELAY_MODEL_ROOTS.
3. Downloaded LoRAs, where there may be some.
4. What the roots' Hugging Face caches hold, as links in the run folder (hub_cache.py).

What somebody put into a folder by hand is meant; a cached repository comes whole, with files that nobody asked for.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ..settings import VOLUME, Settings
from ..url_loras.cache import LoraCache
from ..workflow import ModelFile

# ComfyUI's kind of file -> folders
Folders = dict[str, list[Path]]

# The kinds that are not one folder of the same name, in ComfyUI's order, and the old names of two.
SUBFOLDERS = {
    "diffusion_models": ("unet", "diffusion_models"),
    "text_encoders": ("text_encoders", "clip"),
    "controlnet": ("controlnet", "t2i_adapter"),
}
KINDS = (
    *("checkpoints", "diffusion_models", "text_encoders", "vae", "loras", "clip_vision", "controlnet", "embeddings"),
    *("upscale_models", "latent_upscale_models", "style_models", "model_patches", "audio_encoders"),
    "frame_interpolation",
)
SUFFIXES = (".safetensors", ".sft", ".pth", ".pt", ".pt2", ".ckpt", ".bin", ".pkl")
_OLD_KINDS = {"unet": "diffusion_models", "clip": "text_encoders"}


@dataclass(frozen=True)
class Section:
    """What ComfyUI is told at once: `bases` are where the folders lie, as a reader looks for them."""

    name: str
    bases: tuple[Path, ...]
    folders: Folders
    is_default: bool = False


@dataclass(frozen=True)
class ModelPlaces:
    """The folders of every kind in order, the sections that they come from, and what is wrong with them."""

    own: Path
    sections: list[Section]
    folders: Folders
    notes: list[str] = field(default_factory=list)


def model_places(settings: Settings) -> ModelPlaces:
    own = settings.models_directory or settings.base_directory / "models"
    sections, notes = _of_the_operator(settings)
    if settings.lora_hosts.hosts:
        downloaded = LoraCache(settings.lora_cache_folder, 0).files.absolute()
        sections.append(Section("wan_relay_url_loras", (downloaded,), {"loras": [downloaded]}))
    links = settings.cached_models.absolute()
    sections.append(Section("wan_relay_cached_models", (), {kind: [links / kind] for kind in KINDS}))
    folders = {kind: [own / name for name in SUBFOLDERS.get(kind, (kind,))] for kind in KINDS}
    for section in sections:
        for kind, places in section.folders.items():
            known = folders.setdefault(kind, [])
            for place in places:
                _add(known, place, section.is_default)
    return ModelPlaces(own, sections, folders, notes)


def model_folders(settings: Settings) -> Folders:
    return model_places(settings).folders


def find_model(file: ModelFile, folders: Folders) -> Path | None:
    """The path that ComfyUI will load, or None."""
    return next((path for path in candidates(file, folders) if path.is_file()), None)


def candidates(file: ModelFile, folders: Folders) -> Iterator[Path]:
    """Every path where ComfyUI looks for the file, in its order."""
    for kind in dict.fromkeys(_OLD_KINDS.get(name, name) for name in file.folders):
        for folder in folders.get(kind, ()):
            yield folder / file.name


def listed(kind: str, folders: Folders) -> list[str]:
    """The names of a kind's files as ComfyUI lists them, below its folders and through links; sorted."""
    return sorted(
        {
            Path(place, name).relative_to(folder).as_posix()
            for folder in folders.get(kind, ())
            for place, _, names in os.walk(folder, followlinks=True)
            for name in names
            if name.lower().endswith(SUFFIXES)
        }
    )


def paths_config(sections: Iterable[Section]) -> str:
    """An extra_model_paths.yaml of absolute folders; JSON is YAML."""
    return json.dumps({section.name: _for_comfyui(section) for section in sections}, indent=1)


def _for_comfyui(section: Section) -> dict[str, str | bool]:
    folders = {kind: "\n".join(map(str, places)) for kind, places in section.folders.items()}
    return {"is_default": True, **folders} if section.is_default else {**folders}


def _add(known: list[Path], place: Path, is_default: bool) -> None:
    """As ComfyUI's add_model_folder_path: a default one comes before all that were there."""
    if place in known and not is_default:
        return
    if place in known:
        known.remove(place)
    known.insert(0 if is_default else len(known), place)


def _of_the_operator(settings: Settings) -> tuple[list[Section], list[str]]:
    config = settings.extra_model_paths
    if config is None or not config.is_file():
        return [], []
    try:
        document = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        sections = [
            section
            for name, content in document.items()
            if content
            for section in _for_each_root(_section(name, dict(content), config), settings.roots)
        ]
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return [], [f"{config} is not an extra_model_paths.yaml, and was left out"]
    return sections, []


def _section(name: str, content: dict[str, object], config: Path) -> Section:
    """With absolute folders, as ComfyUI reads it. Raises TypeError, ValueError."""
    base = Path(os.path.expandvars(os.path.expanduser(str(content.pop("base_path", "")))))
    base = config.absolute().parent / base
    is_default = bool(content.pop("is_default", False))
    folders: Folders = {}
    for kind, lines in content.items():
        if not isinstance(lines, str):
            raise TypeError(f"{name}.{kind}")
        places = [Path(os.path.normpath(base / line)) for line in lines.split("\n") if line]
        folders.setdefault(_OLD_KINDS.get(kind, kind), []).extend(places)
    return Section(str(name), (Path(os.path.normpath(base)),), folders, is_default)


def _for_each_root(section: Section, roots: list[Path]) -> list[Section]:
    everything = [*section.bases, *(place for places in section.folders.values() for place in places)]
    if not any(place.is_relative_to(VOLUME) for place in everything):
        return [section]

    def moved(place: Path, root: Path) -> Path:
        return root / place.relative_to(VOLUME) if place.is_relative_to(VOLUME) else place

    return [
        Section(
            f"{section.name} in {root}",
            tuple(moved(base, root) for base in section.bases),
            {kind: [moved(place, root) for place in places] for kind, places in section.folders.items()},
            section.is_default,
        )
        for root in roots
    ]
