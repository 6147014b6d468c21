"""The toy's upscaler is bilinear interpolation, as core's own loader reads it."""

from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.comfy


def test_it_is_bilinear_interpolation_with_a_border_that_does_not_fade(toy_models: Path) -> None:
    import comfy.utils
    from spandrel import ModelLoader

    file = toy_models / "upscale_models" / "toy_upscaler_x2.safetensors"
    model = ModelLoader().load_from_state_dict(comfy.utils.load_torch_file(str(file))).eval()
    assert (model.architecture.id, model.scale, model.input_channels, model.output_channels) == ("Compact", 2, 3, 3)
    pictures = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    pictures[1] = 1.0
    with torch.inference_mode():
        larger = model.model.float()(pictures)
    expected = torch.nn.functional.interpolate(pictures, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(larger[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5, rtol=0)
    assert (larger - expected).abs().max() < 1 / 16 + 1e-5  # at the border a diagonal neighbour is left out
    torch.testing.assert_close(larger[1], torch.ones(3, 20, 28), atol=1e-6, rtol=0)
