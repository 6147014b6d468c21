import numpy as np
import pytest
import torch
from PIL import Image
from wan_relay.nodes.engine.frames.resize_image import check_image, fit_frames
from wan_relay.nodes.rules.errors import InvalidInput

pytestmark = pytest.mark.comfy


def synthetic_photo(width: int, height: int) -> torch.Tensor:
    """Zone-plate rings, which alias badly, over noise and a gradient; [1, height, width, 3] in 8-bit steps."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rings = 0.25 * np.sin((x * x + y * y) / (3 * width))
    noise = 0.1 * random.standard_normal((height, width, 3), dtype=np.float32)
    colour = np.stack([x / width, y / height, 1 - x / width], axis=-1) * 0.4 + 0.3
    photo = np.clip(colour + rings[..., None] + noise, 0, 1)
    return torch.from_numpy(np.round(photo * 255).astype(np.float32) / 255)[None]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) ** 2).mean()))


def fitted(frames: torch.Tensor, width: int, height: int, fit: str) -> torch.Tensor:
    canvas = torch.full((len(frames), height, width, 3), 0.5)
    fit_frames(frames, canvas, fit)
    return canvas


def pillow(frame: torch.Tensor, width: int, height: int) -> torch.Tensor:
    image = Image.fromarray((frame * 255).round().byte().numpy())
    return torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.LANCZOS))).float() / 255


def test_a_large_photo_does_not_alias() -> None:
    from comfy.utils import common_upscale

    photo = synthetic_photo(4000, 3000)
    lanczos = pillow(photo[0], 832, 624)
    core = common_upscale(photo.movedim(-1, 1), 832, 624, "bilinear", "center").movedim(1, -1)[0]
    assert psnr(core, lanczos) < 25  # ComfyUI's own image-to-video nodes
    assert psnr(fitted(photo, 832, 624, "stretch")[0], lanczos) > 50


def test_crop_is_the_middle_of_the_covering_image() -> None:
    photo = synthetic_photo(300, 200)
    whole = pillow(photo[0], 192, 128)
    assert psnr(fitted(photo, 128, 128, "crop")[0], whole[:, 32:160]) > 50
    tall = synthetic_photo(100, 300)
    assert psnr(fitted(tall, 64, 64, "crop")[0], pillow(tall[0], 64, 192)[64:128]) > 50


def test_crop_takes_the_part_that_is_asked_for() -> None:
    photo = synthetic_photo(300, 200)
    canvas = torch.empty(1, 128, 128, 3)
    whole = pillow(photo[0], 192, 128)
    for position, left in (("left", 0), ("right", 64)):
        fit_frames(photo, canvas, "crop", position)
        assert psnr(canvas[0], whole[:, left : left + 128]) > 50


def test_pad_keeps_the_whole_image_between_black_bars() -> None:
    photo = synthetic_photo(300, 200)
    frame = fitted(photo, 96, 96, "pad")[0]
    assert psnr(frame[16:80], pillow(photo[0], 96, 64)) > 50
    assert not frame[:16].any()
    assert not frame[80:].any()


def test_a_small_image_is_enlarged_within_range() -> None:
    step = torch.zeros(1, 8, 8, 3)
    step[:, :, 4:] = 1
    frame = fitted(step, 64, 64, "crop")
    assert frame.min() == 0
    assert frame.max() == 1
    assert psnr(frame[0], pillow(step[0], 64, 64)) > 50


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_work(dtype: torch.dtype) -> None:
    photo = synthetic_photo(80, 60)
    rgb, warnings = check_image("start_image", photo.to(dtype))
    assert warnings == []
    assert psnr(fitted(rgb, 40, 30, "crop"), fitted(photo, 40, 30, "crop")) > 50


def test_frames_of_the_right_size_are_copied_bit_for_bit() -> None:
    frames = torch.rand(3, 32, 48, 3)
    assert torch.equal(fitted(frames, 48, 32, "crop"), frames)


def test_orientation_order_and_channels_are_kept() -> None:
    """Frame, row, column and channel each have their own brightness: none can be taken for another."""
    n, y, x, c = torch.meshgrid(*(torch.arange(k) / k for k in (3, 40, 60, 3)), indexing="ij")
    ramps = 0.1 + 0.4 * x + 0.25 * y + 0.1 * c + 0.1 * n
    small = torch.nn.functional.avg_pool2d(ramps.movedim(-1, 1), 2).movedim(1, -1)
    assert torch.allclose(fitted(ramps, 30, 20, "stretch")[:, 3:-3, 3:-3], small[:, 3:-3, 3:-3], atol=2e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_channel_count_becomes_rgb(channels: int) -> None:
    image = torch.rand(2, 5, 7, channels)
    rgb, warnings = check_image("start_image", image)
    assert torch.equal(rgb, image[..., :1].repeat(1, 1, 1, 3) if channels < 3 else image[..., :3])
    expected = ["start_image has an alpha channel; it is dropped and the colour is used as it is."]
    assert warnings == (expected if channels in (2, 4) else [])


def test_overshoot_is_clamped_and_said() -> None:
    image = torch.full((1, 4, 4, 3), 0.5)
    image[0, 0, 0] = 1.05
    rgb, warnings = check_image("end_image", image)
    assert torch.equal(rgb, image.clamp(0, 1))
    assert warnings == ["end_image has values from 0.5 to 1.05; they are clamped to 0 to 1."]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.rand(1, 8, 8, 3) * 255, r"values from 0 to 1, got .* to 25\d"),
        (torch.rand(1, 8, 8, 3) * 2 - 1, r"values from 0 to 1, got -(0\.9|1)"),
        (torch.full((1, 8, 8, 3), torch.nan), "values from 0 to 1, got nan"),
        (torch.rand(1, 8, 8, 5), "1 to 4 channels, got 5"),
        (torch.rand(8, 8, 3), r"floats of \[batch, height, width, channels\], got torch.float32 of \(8, 8, 3\)"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "got torch.uint8"),
        (torch.rand(0, 8, 8, 3), r"pixels, got \(0, 8, 8, 3\)"),
        ("image.png", "got str"),
    ],
)
def test_what_is_no_image_is_refused(image: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=f"start_image must .*{words}"):
        check_image("start_image", image)  # type: ignore[arg-type]


def test_an_extreme_aspect_needs_no_extreme_memory() -> None:
    line = torch.rand(1, 2, 20000, 3)
    assert fitted(line, 64, 96, "crop").shape == (1, 96, 64, 3)
    assert fitted(line, 64, 96, "pad")[0, 48].any()
