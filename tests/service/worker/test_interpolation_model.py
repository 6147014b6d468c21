"""Which file makes the frames in between."""

from pathlib import Path

import pytest
import yaml
from wan_relay.service.worker.interpolation import InterpolationModel
from wan_relay.service.worker.interpolation_model import find_interpolation_model
from wan_relay.service.worker.settings import PACKAGE, Settings

PATHS = PACKAGE / "service" / "worker" / "extra_model_paths.yaml"


def settings(folder: Path, files: list[str], **variables: str) -> Settings:
    for name in files:
        path = folder / "models" / "frame_interpolation" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    given = {"WAN_RELAY_MODELS": str(folder / "models"), "WAN_RELAY_EXTRA_MODEL_PATHS": str(folder / "none.yaml")}
    return Settings.from_environment(given | variables)


@pytest.mark.parametrize(
    ("files", "variables", "film", "rife"),
    [
        ([], {}, None, None),
        (["readme.txt", "film.md", "other.pth"], {}, None, None),
        (
            ["b_film.safetensors", "A_FILM_net_fp16.safetensors", "rife_v4.26.pth"],
            {},
            ("A_FILM_net_fp16.safetensors", "film"),
            ("rife_v4.26.pth", "rife"),
        ),
        (["rife47.pth"], {}, ("rife47.pth", "rife"), ("rife47.pth", "rife")),
        (["nets/film.sft"], {}, ("nets/film.sft", "film"), ("nets/film.sft", "film")),
        (
            ["film.pt", "mine.pth"],
            {"WAN_RELAY_FILM": "mine.pth", "WAN_RELAY_RIFE": "gone.pth"},
            ("mine.pth", "film"),
            ("mine.pth", "film"),
        ),
    ],
)
def test_the_file_that_is_taken(tmp_path, files, variables, film, rife):
    found = settings(tmp_path, files, **variables)
    for network, expected in (("film", film), ("rife", rife)):
        assert find_interpolation_model(network, found) == (InterpolationModel(*expected) if expected else None)
    assert find_interpolation_model("none", found) is None


def test_the_volume_is_searched(tmp_path):
    document = yaml.safe_load(PATHS.read_text())
    assert {section["frame_interpolation"] for section in document.values()} == {"frame_interpolation"}
    text = PATHS.read_text().replace("/runpod-volume", str(tmp_path / "volume"))
    (tmp_path / "paths.yaml").write_text(text)
    folder = tmp_path / "volume" / "ComfyUI" / "models" / "frame_interpolation"
    folder.mkdir(parents=True)
    (folder / "film_net.pt").touch()
    made = settings(tmp_path, [], WAN_RELAY_EXTRA_MODEL_PATHS=str(tmp_path / "paths.yaml"))
    assert find_interpolation_model("film", made) == InterpolationModel("film_net.pt", "film")
