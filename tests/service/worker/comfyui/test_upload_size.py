"""The largest image that the worker takes fits what ComfyUI lets in."""

import random

import pytest
from PIL import Image
from wan_relay.service.worker.comfyui.process import ComfyProcess
from wan_relay.service.worker.settings import Settings
from wan_relay.tests.service.media.pictures import encoded, plain


@pytest.mark.parametrize("megapixels", [1, 50, 200])
def test_noise_of_all_the_pixels_that_are_taken_fits(megapixels: int) -> None:
    settings = Settings.from_environment({"WAN_RELAY_MAX_IMAGE_MEGAPIXELS": str(megapixels)})
    command = ComfyProcess(settings).command()
    limit = float(command[command.index("--max-upload-size") + 1]) * 1024**2
    noise = Image.frombytes("RGB", (1000, 1000), random.Random(1).randbytes(3_000_000))
    assert len(plain(encoded(noise)).png) * megapixels < limit
