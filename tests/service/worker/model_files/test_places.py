"""Where model files may lie, and that ComfyUI is told the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from wan_relay.service.worker.model_files.places import find_model, model_folders, model_places, paths_config
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import ModelFile

EXPERT = ModelFile("high.safetensors", ("diffusion_models", "unet", "checkpoints"))


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def settings_of(folder: Path, roots: str = "", **variables: Any) -> Settings:
    defaults = {
        "COMFYUI_BASE": folder / "comfyui",
        "WAN_RELAY_RUN_DIR": folder / "run",
        "WAN_RELAY_VOLUME": folder / "one",
        "WAN_RELAY_MODEL_ROOTS": roots or f"{folder}/one, {folder}/two",
    }
    return Settings.from_environment({name: str(value) for name, value in (defaults | variables).items()})


def test_the_first_place_of_comfyui_s_order_counts(tmp_path: Path) -> None:
    folders = model_folders(settings_of(tmp_path))
    in_order = (
        "comfyui/models/unet",
        "comfyui/models/diffusion_models",
        *(
            f"{root}/{models}/{kind}"
            for models in ("models", "ComfyUI/models")
            for root in ("one", "two")
            for kind in ("diffusion_models", "unet")
        ),
        "run/cached_models/diffusion_models",
        "comfyui/models/checkpoints",
        *(f"{root}/{models}/checkpoints" for models in ("models", "ComfyUI/models") for root in ("one", "two")),
        "run/cached_models/checkpoints",
    )
    paths = [put(tmp_path / folder / "high.safetensors") for folder in in_order]
    for path in paths:
        assert find_model(EXPERT, folders) == path
        path.unlink()
    assert find_model(EXPERT, folders) is None


def test_every_kind_is_found_on_the_volume(tmp_path: Path) -> None:
    folders = model_folders(settings_of(tmp_path))
    for folder, file in (
        ("models/text_encoders", ModelFile("t.safetensors", ("text_encoders", "clip"))),
        ("models/clip", ModelFile("c.safetensors", ("text_encoders", "clip"))),
        ("ComfyUI/models/vae", ModelFile("v.safetensors", ("vae",))),
        ("models/loras", ModelFile("sub/l.safetensors", ("loras",))),
        ("models/diffusion_models", ModelFile("by_its_old_name.safetensors", ("unet",))),
    ):
        path = put(tmp_path / "two" / folder / file.name)
        assert find_model(file, folders) == path


def test_without_a_setting_the_volume_is_runpod_s(tmp_path: Path) -> None:
    places = model_places(settings_of(tmp_path, roots="/runpod-volume"))
    bases = [str(base) for section in places.sections for base in section.bases]
    assert bases == ["/runpod-volume/models", "/runpod-volume/ComfyUI/models"]
    assert Settings.from_environment({}).roots == [Path("/runpod-volume")]


def test_comfyui_is_told_the_same_folders(tmp_path: Path) -> None:
    """By the rules of ComfyUI's load_extra_path_config and add_model_folder_path."""
    config = tmp_path / "own.yaml"
    config.write_text(
        "first:\n  base_path: $HERE/a\n  is_default: true\n  unet: x\n  loras: |\n    l\n    m\n"
        "second:\n  vae: v\n  upscalers: /abs/u\n"
        "third:\n  base_path: /runpod-volume/own\n  clip: c\nempty:\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERE", str(tmp_path))
        settings = settings_of(tmp_path, WAN_RELAY_EXTRA_MODEL_PATHS=config, WAN_RELAY_LORA_HOSTS="huggingface.co")
        places = model_places(settings)
    own, links = tmp_path / "comfyui" / "models", tmp_path / "run" / "cached_models"
    assert places.notes == []
    assert places.folders["diffusion_models"] == [
        tmp_path / "a" / "x",
        own / "unet",
        own / "diffusion_models",
        links / "diffusion_models",
    ]
    loras = tmp_path / "run" / "loras" / "files"
    assert places.folders["loras"] == [
        *(tmp_path / "a" / name for name in "ml"),
        *(own / "loras", loras, links / "loras"),
    ]
    assert places.folders["vae"] == [own / "vae", tmp_path / "v", links / "vae"]
    assert places.folders["text_encoders"] == [
        *(own / "text_encoders", own / "clip"),
        *(tmp_path / root / "own" / "c" for root in ("one", "two")),
        links / "text_encoders",
    ]
    assert places.folders["upscalers"] == [Path("/abs/u")]
    assert as_comfyui_reads(yaml.safe_load(paths_config(places.sections)), own) == {
        kind: list(map(str, folders)) for kind, folders in places.folders.items()
    }


def as_comfyui_reads(document: dict[str, dict[str, Any]], own: Path) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    kinds = {kind for section in document.values() for kind in section if kind != "is_default"}
    for kind in kinds:
        names = {"diffusion_models": ["unet", "diffusion_models"], "text_encoders": ["text_encoders", "clip"]}
        names["controlnet"] = ["controlnet", "t2i_adapter"]
        folders[kind] = [str(own / name) for name in names.get(kind, [kind])] if kind != "upscalers" else []
    for section in document.values():
        is_default = section.pop("is_default", False)
        for kind, lines in section.items():
            for line in lines.split("\n"):
                folders[kind].insert(0 if is_default else len(folders[kind]), line)
    return folders


@pytest.mark.parametrize("text", ["a: [1", "a: b", "a:\n  vae: 3", "- a", "a:\n  - b", "\xff"])
def test_a_config_that_is_none_is_named_and_left_out(tmp_path: Path, text: str) -> None:
    config = tmp_path / "bad.yaml"
    config.write_bytes(text.encode("latin-1"))
    places = model_places(settings_of(tmp_path, WAN_RELAY_EXTRA_MODEL_PATHS=config))
    assert places.notes == [f"{config} is not an extra_model_paths.yaml, and was left out"]
    assert [section.name for section in places.sections] == ["wan_relay_cached_models"]


def test_roots_are_absolute_folders() -> None:
    assert Settings.from_environment({"WAN_RELAY_MODEL_ROOTS": " /a,/b ,, /a"}).roots == [Path("/a"), Path("/b")]
    with pytest.raises(ValidationError) as caught:
        Settings.from_environment({"WAN_RELAY_MODEL_ROOTS": "/a,b"})
    [fault] = caught.value.errors()
    assert fault["msg"] == "Value error, must be absolute folders, comma-separated; got b"
