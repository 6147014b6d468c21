"""ComfyUI's model folders, pointed at a temporary place for one test."""

from pathlib import Path

import folder_paths
import pytest


def use_folders(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Let ComfyUI look for experts, checkpoints and LoRAs below `root`, as a fresh installation does."""
    folders = {"diffusion_models": ("unet", "diffusion_models"), "checkpoints": ("checkpoints",), "loras": ("loras",)}
    for key, names in folders.items():
        _, endings = folder_paths.folder_names_and_paths[key]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(root / name) for name in names], endings))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
