"""Frames through real upscaling networks, against core's node and against Pillow."""

import weakref
from pathlib import Path
from typing import Any

import comfy.model_management
import numpy as np
import pytest
import torch
from comfy_extras.nodes_upscale_model import ImageUpscaleWithModel
from PIL import Image
from spandrel import ModelLoader
from wan_relay.nodes.engine.video import upscaling
from wan_relay.nodes.engine.video.upscaling import upscale
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.tests.engine.video.upscaling_models import save_upscaler

pytestmark = pytest.mark.comfy
FRAMES = torch.rand((3, 40, 56, 3), generator=torch.Generator().manual_seed(1))


def load(path: Path, scale: int, weight: float) -> Any:
    """As core's Load Upscale Model does."""
    from comfy.model_patcher import CoreModelPatcher
    from comfy.utils import load_torch_file

    save_upscaler(path, scale, weight)
    model: Any = ModelLoader().load_from_state_dict(load_torch_file(str(path), safe_load=True)).eval()
    device = comfy.model_management.get_torch_device()
    model.patcher = CoreModelPatcher(
        model.model, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )
    assert model.scale == scale
    return model


def by_lanczos(frames: torch.Tensor, scale: int, size: tuple[int, int]) -> torch.Tensor:
    """Each pixel `scale` times a side, then by Pillow to this width and height."""
    planes = frames.repeat_interleave(scale, 1).repeat_interleave(scale, 2).movedim(-1, 1).flatten(0, 1)
    resized = [np.array(Image.fromarray(plane.numpy()).resize(size, Image.Resampling.LANCZOS)) for plane in planes]
    return torch.from_numpy(np.stack(resized)).unflatten(0, (len(frames), 3)).movedim(1, -1).clamp(0, 1)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_at_the_models_own_scale_it_is_what_cores_node_makes(tmp_path: Path, scale: int) -> None:
    model = load(tmp_path / "a.safetensors", scale, 0.3)
    (expected,) = ImageUpscaleWithModel.execute(model, FRAMES).args
    doubled = FRAMES.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    assert (expected - doubled).abs().max() > 0.05, "the network does something"
    torch.testing.assert_close(upscale(FRAMES, model, scale), expected, rtol=0, atol=1e-6)


def test_another_factor_is_the_models_picture_by_lanczos(tmp_path: Path) -> None:
    model = load(tmp_path / "a.safetensors", 4, 0.0)
    made = upscale(FRAMES, model, 1.5)
    assert made.shape == (3, 60, 84, 3)
    torch.testing.assert_close(made, by_lanczos(FRAMES, 4, (84, 60)), rtol=0, atol=1e-5)


def test_factor_1_keeps_the_size_also_where_it_is_odd(tmp_path: Path) -> None:
    model = load(tmp_path / "a.safetensors", 2, 0.0)
    odd = FRAMES[:, :39, :55]
    torch.testing.assert_close(upscale(odd, model, 1), by_lanczos(odd, 2, (55, 39)), rtol=0, atol=1e-5)


def test_one_frame_at_a_time_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the model's scale there is never more than the frame that is being made."""
    model = load(tmp_path / "a.safetensors", 4, 0.3)
    through = upscaling._through
    alive: list[weakref.ref[torch.Tensor]] = []

    def counted(*arguments: Any) -> Any:
        assert [kept for kept in alive if kept() is not None][1:] == []
        larger, tile = through(*arguments)
        alive.append(weakref.ref(larger))
        return larger, tile

    monkeypatch.setattr(upscaling, "_through", counted)
    seen: list[int] = []
    upscale(FRAMES.repeat(3, 1, 1, 1), model, 2, seen.append)
    assert (len(alive), seen) == (9, list(range(1, 10)))


def test_smaller_tiles_where_the_memory_ends(tmp_path: Path) -> None:
    model = load(tmp_path / "a.safetensors", 2, 0.0)
    large = torch.rand((2, 300, 280, 3), generator=torch.Generator().manual_seed(2))
    expected = upscale(large, model, 2)
    sizes: list[int] = []

    class Small:
        scale, patcher = model.scale, model.patcher

        def __call__(self, part: torch.Tensor) -> torch.Tensor:
            sizes.append(max(part.shape[2:]))
            if sizes[-1] > 128:
                raise torch.cuda.OutOfMemoryError
            return model(part)

    torch.testing.assert_close(upscale(large, Small(), 2), expected, rtol=0, atol=1e-6)
    assert sizes[:2] == [300, 256]
    assert sum(size > 128 for size in sizes) == 2, "the tile that fits is kept for the next frame"


@pytest.mark.parametrize(
    ("frames", "factor", "words"),
    [
        (FRAMES, 5, "factor must be 1 to 4; got 5."),
        (FRAMES, float("nan"), "factor must be 1 to 4; got nan."),
        (torch.zeros(1, 16, 4112, 3), 2, "factor 2 makes 8224 x 32 pixels of 4112 x 16; at most 8192 a side."),
        (torch.zeros(1, 16, 16, 4), 2, "images must have 3 channels; got 4."),
        (torch.zeros(0, 16, 16, 3), 2, "images must hold at least one frame and one pixel; got [0, 16, 16, 3]."),
    ],
)
def test_what_cannot_be(frames: torch.Tensor, factor: float, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        upscale(frames, None, factor)
    assert str(refused.value) == words
