"""Frames in between, against the frames that were really there: a picture that pans by a known way."""

import comfy_extras.nodes_frame_interpolation as core
import pytest
import torch
from comfy_extras.frame_interpolation_models.ifnet import IFNet
from PIL import Image
from torch.nn.functional import grid_sample
from torchvision.transforms.functional import to_tensor
from wan_relay.nodes.engine.video import motion_interpolation
from wan_relay.nodes.engine.video.frame_interpolation import interpolate, interpolate_videos, method_of
from wan_relay.nodes.engine.video.motion_interpolation import between_by_motion
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.tests.engine.video.interpolation_models import save_film, save_rife

pytestmark = pytest.mark.comfy

HEIGHT, WIDTH, PIXELS_A_FRAME = 96, 160, 6.0
EDGE = 16  # what comes into the picture there nobody can know


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """[1, 3, 240, 400] in 0..1."""
    with Image.open("tests/data/coffee.jpg") as picture:
        return to_tensor(picture.convert("RGB").resize((400, 240)))[None]


def pan(photo: torch.Tensor, positions: list[float]) -> torch.Tensor:
    """The pictures [frames, HEIGHT, WIDTH, 3] at these times, in frames."""
    frames = []
    for position in positions:
        x = (torch.arange(WIDTH) + 40 + position * PIXELS_A_FRAME) * 2 / 399 - 1
        y = (torch.arange(HEIGHT) + 60) * 2 / 239 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        frames.append(grid_sample(photo, grid, mode="bicubic", align_corners=True).clamp(0, 1)[0].movedim(0, -1))
    return torch.stack(frames)


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_the_frames_in_between_are_those_of_the_motion(photo, factor):
    num_frames = 11  # two runs of the filter
    images = pan(photo, [float(index) for index in range(num_frames)])
    made = between_by_motion(images, factor)
    assert made.shape == (factor * (num_frames - 1) + 1, HEIGHT, WIDTH, 3)
    assert torch.equal(made[::factor], images)
    truth = pan(photo, [index / factor for index in range(len(made))])
    error = (made - truth)[:, EDGE:-EDGE, EDGE:-EDGE].abs().mean(dim=(1, 2, 3))
    nearest = (images[0] - truth[factor // 2])[EDGE:-EDGE, EDGE:-EDGE].abs().mean()
    assert error.max() < 0.02  # whole pixels are what the filter moves
    assert nearest > 0.03


def test_colours_are_those_of_the_images():
    """A still picture of every corner of the cube and of greys: 8 bits in between are all that may differ."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)
    still = corners.repeat_interleave(16, 0).repeat(32, 1, 1)[None].repeat(4, 1, 1, 1)
    made = between_by_motion(still, 2)
    assert (made - still[:1]).abs().max() < 1.5 / 255
    assert (made - still[:1]).mean(dim=(0, 1, 2)).abs().max() < 0.2 / 255


@pytest.mark.parametrize("size", [(2, 2), (16, 17), (33, 80), (64, 64), (100, 300)])
@pytest.mark.parametrize("num_frames", [2, 3, 9, 10])
def test_any_size_and_length(size, num_frames):
    images = torch.rand(num_frames, *size, 3, generator=torch.Generator().manual_seed(1))
    made = between_by_motion(images, 3)
    assert made.shape == (3 * (num_frames - 1) + 1, *size, 3)
    assert torch.equal(made[::3], images)
    assert torch.isfinite(made).all()


def test_the_same_frames_whatever_the_machine(photo, monkeypatch):
    images = pan(photo, [float(index) for index in range(20)])
    several = between_by_motion(images, 2)
    monkeypatch.setattr(motion_interpolation, "MOST_THREADS", 1)
    assert torch.equal(between_by_motion(images, 2), several)


def test_as_comfyui_runs_nodes(photo):
    images = pan(photo, [0.0, 1.0, 2.0])
    with torch.inference_mode():
        made = between_by_motion(images.clone(), 2)
    assert torch.equal(made, between_by_motion(images, 2))


def test_a_cut_is_not_blended():
    images = torch.cat([torch.zeros(4, 64, 64, 3), torch.ones(4, 64, 64, 3)])
    made = between_by_motion(images, 2)[7]
    assert made.mean() < 0.01 or made.mean() > 0.99


def test_progress_counts_steps_and_may_stop():
    images, heard = torch.rand(18, 16, 16, 3), []
    between_by_motion(images, 2, heard.append)
    assert heard == [8, 16, 17]

    heard.clear()
    interpolate_videos(images, [slice(0, 9), slice(9, 18)], 2, None, heard.append)
    assert heard == [8, 16]

    class Stopped(Exception):
        pass

    def stop(done: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        between_by_motion(images, 2, stop)


@pytest.mark.parametrize(("save", "name"), [(save_film, "film"), (save_rife, "rife")])
def test_cores_networks_make_the_frames_in_between(tmp_path, monkeypatch, photo, save, name):
    """Random weights: the network's own picture is no judge, core's node is."""
    monkeypatch.setattr(core.folder_paths, "get_full_path_or_raise", lambda kind, file: str(tmp_path / file))
    save(tmp_path / "model.safetensors")
    (model,) = core.FrameInterpolationModelLoader.execute("model.safetensors").args
    images = pan(photo, [0.0, 1.0, 2.0])[:, :64, :64]
    made = interpolate(images, 3, model)
    assert method_of(model) == name
    assert made.shape == (7, 64, 64, 3)
    assert torch.equal(made[::3], images)
    assert torch.equal(made, core.FrameInterpolate.execute(model, images, 3).args[0])
    assert not torch.allclose(made, between_by_motion(images, 3), atol=0.02)


def test_a_factor_of_one_and_a_single_frame_change_nothing():
    images = torch.rand(3, 16, 16, 3)
    assert interpolate(images, 1) is images
    assert interpolate(images[:1], 4).shape == (1, 16, 16, 3)
    assert method_of(None) == "minterpolate"
    assert IFNet.__name__ == "IFNet"


@pytest.mark.parametrize(
    ("images", "factor", "words"),
    [
        (torch.zeros(3, 16, 16, 4), 2, "images must have 3 channels; got 4"),
        (torch.zeros(3, 16, 16, 3), 9, "factor must be 1 to 8; got 9"),
        (torch.zeros(16, 16, 3), 2, "images must be"),
    ],
)
def test_what_cannot_be_interpolated_is_refused(images, factor, words):
    with pytest.raises(InvalidInput, match=words):
        interpolate(images, factor)
