from pathlib import Path

import pytest
import torch
from comfy_extras.nodes_upscale_model import UpscaleModelLoader
from wan_relay.nodes.upscale_frames import UpscaleFrames
from wan_relay.tests.engine.video.upscaling_models import save_upscaler

pytestmark = pytest.mark.comfy


@pytest.mark.parametrize(
    ("factor", "size", "warnings"),
    [
        (1.0, (56, 40), []),
        (1.5, (84, 60), []),
        (2.0, (112, 80), []),
        (3.0, (168, 120), ["the model's scale is 2; the rest to 3 is Lanczos, which adds no detail."]),
    ],
)
def test_the_size_comes_out_with_the_frames(
    factor: float, size: tuple[int, int], warnings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "upscale_models", ([str(tmp_path)], {".safetensors"}))
    save_upscaler(tmp_path / "x2.safetensors", 2)
    (model,) = UpscaleModelLoader.execute("x2.safetensors").args
    made = UpscaleFrames.execute(torch.rand(2, 40, 56, 3), model, factor)
    frames, width, height = made.result
    assert (frames.shape, width, height) == ((2, size[1], size[0], 3), *size)
    details = {"width": width, "height": height, "factor": factor, "model_scale": 2.0, "warnings": warnings}
    assert made.ui == {"wan_relay": [details]}


def test_what_cannot_be_is_refused_at_queue_time() -> None:
    assert UpscaleFrames.validate_inputs(factor=2) is True
    assert UpscaleFrames.validate_inputs(factor=None) is True
    assert UpscaleFrames.validate_inputs(factor=4.5) == "factor must be 1 to 4; got 4.5."
