"""Which file makes the frames larger, and where it stands in a workflow."""

from pathlib import Path

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.video_request import VideoRequest
from wan_relay.service.worker.interpolation import INTERPOLATE
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.upscale_model import with_upscale_model
from wan_relay.service.worker.upscaling import MODEL_LOADER, UPSCALE
from wan_relay.service.worker.workflow import SAVE, Plan, build_plan

SETTINGS = Settings.from_environment({})
X2, X4 = "RealESRGAN_x2plus.pth", "more/x4.safetensors"


def request(**fields: object) -> VideoRequest:
    return VideoRequest.model_validate({"prompt": "a cup", "image_url": "https://a.example/a.png", **fields})


def refusal(fields: dict[str, object], settings: Settings = SETTINGS) -> str:
    with pytest.raises(JobError) as refused:
        with_upscale_model(request(**fields), settings)
    return str(refused.value)


def worker_with(folder: Path, *files: str, **variables: str) -> Settings:
    for name in files:
        path = folder / "models" / "upscale_models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    given = {"WAN_RELAY_MODELS": str(folder / "models"), "WAN_RELAY_EXTRA_MODEL_PATHS": str(folder / "none.yaml")}
    return Settings.from_environment(given | variables)


def plan(**fields: object) -> Plan:
    return build_plan(request(**fields), 77, "start.png", None, "x/video", SETTINGS)


def inputs(made: Plan, class_type: str) -> dict[str, object]:
    found: dict[str, object] = made.graph[made.node_id(class_type)]["inputs"]
    return found


def test_the_file_that_is_taken(tmp_path: Path) -> None:
    files = (X4, X2, "readme.txt")
    for variables, fields, expected in (
        ({}, {"upscale_factor": 2}, X2),
        ({"WAN_RELAY_UPSCALE_MODEL": X4}, {"upscale_factor": 2}, X4),
        ({"WAN_RELAY_UPSCALE_MODEL": "gone.pth"}, {"upscale_factor": 2}, X2),
        ({}, {"upscale_factor": 2, "upscale_model": X4}, X4),
        ({}, {"upscale_factor": 1, "upscale_model": "gone.pth"}, "gone.pth"),
        ({}, {}, None),
    ):
        made = with_upscale_model(request(**fields), worker_with(tmp_path, *files, **variables))
        assert made.upscale_model == expected


@pytest.mark.parametrize("name", ["gone.pth", "../../etc/passwd", "/etc/passwd", "readme.txt"])
def test_a_file_that_is_not_listed_is_refused(tmp_path: Path, name: str) -> None:
    sentence = "FILE_NOT_FOUND: upscale_model must be a file in this worker's upscale_models folder: {} (upscale_model)"
    asked = {"upscale_factor": 2, "upscale_model": name}
    assert refusal(asked, worker_with(tmp_path / "none")) == sentence.format("there are none")
    assert refusal(asked, worker_with(tmp_path, X4, X2, "readme.txt")) == sentence.format(f"{X2}, {X4}")


def test_a_worker_without_any(tmp_path: Path) -> None:
    assert refusal({"upscale_factor": 1.5}, worker_with(tmp_path)) == (
        "MODEL_MISSING: upscale_factor needs a model file, such as RealESRGAN_x2plus.pth, in this worker's "
        "upscale_models folder (upscale_factor)"
    )


def test_upscaling_comes_before_interpolation() -> None:
    plain = plan()
    made = plan(upscale_factor=1.5, upscale_model=X2, interpolation="film")
    assert inputs(made, MODEL_LOADER) == {"model_name": X2}
    decoded = inputs(plain, SAVE)["images"]
    upscaler = [made.node_id(MODEL_LOADER), 0]
    assert inputs(made, UPSCALE) == {"images": decoded, "upscale_model": upscaler, "factor": 1.5}
    assert inputs(made, INTERPOLATE)["images"] == [made.node_id(UPSCALE), 0]
    assert inputs(plan(upscale_factor=2, upscale_model=X2), SAVE)["images"] == [made.node_id(UPSCALE), 0]
    assert plan(upscale_factor=1, upscale_model=X2).graph == plain.graph


def test_the_budget_counts_the_larger_frames() -> None:
    plan(width=1280, height=720, upscale_factor=3, upscale_model=X2)
    with pytest.raises(JobError) as refused:
        plan(width=1280, height=720, upscale_factor=4, upscale_model=X2)
    assert str(refused.value) == (
        "OUT_OF_RANGE: 5120 x 2880 x 81 is 1194 million pixels; this worker takes at most 742 million, "
        "so lower the size or upscale_factor (upscale_factor)"
    )


def test_a_model_needs_a_factor() -> None:
    with pytest.raises(ValueError, match="upscale_model needs upscale_factor beside it"):
        request(upscale_model=X2)
