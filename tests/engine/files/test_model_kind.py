import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from wan_relay.nodes.engine.files.model_kind import (
    check_images,
    check_latent,
    check_models,
    conditioning_warnings,
    model_kind,
    used_conditioning,
)
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.tests.engine.tiny_wan import tiny_wan

pytestmark = pytest.mark.comfy


def model(model_type: str = "t2v", in_dim: int = 36, out_dim: int = 16, image_model: str = "wan2.1") -> Any:
    config = {"image_model": image_model, "model_type": model_type, "in_dim": in_dim, "out_dim": out_dim}
    return SimpleNamespace(model=SimpleNamespace(model_config=SimpleNamespace(unet_config=config)))


I2V, T2V, TI2V_5B = model(), model(in_dim=16), model(in_dim=48, out_dim=48)
WAN21_I2V, VACE, FLUX = model("i2v"), model("vace", 16), model(image_model="flux")
IMAGE = torch.zeros(1, 16, 3, 4, 4)
WITH_IMAGE = [[torch.zeros(1, 4, 8), {"concat_latent_image": IMAGE}]]
LONGER = [[torch.zeros(1, 4, 8), {"concat_latent_image": torch.zeros(1, 16, 5, 4, 4)}]]
WITHOUT = [[torch.zeros(1, 4, 8), {}]]


def check_all(
    kind: str, positive: list, shape: tuple[int, ...], negative: list = WITHOUT, cfgs: tuple[float, ...] = (1.0,)
) -> None:
    told = used_conditioning(positive, negative, *cfgs)
    check_images(kind, told)
    check_latent(kind, told, torch.zeros(shape))


@pytest.mark.parametrize("kind", ["i2v", "t2v", "ti2v_5b"])
def test_kinds_of_models_that_comfyui_loaded(kind: str) -> None:
    assert model_kind(tiny_wan(kind)) == kind


@pytest.mark.parametrize(
    ("loaded", "kind"),
    [
        (WAN21_I2V, "wan2.1_i2v"),
        (VACE, "vace"),
        (model("animate"), "animate"),
        (model(in_dim=52), "other_wan"),
        (FLUX, "other"),
        (SimpleNamespace(model=SimpleNamespace()), "other"),
    ],
)
def test_other_kinds(loaded: Any, kind: str) -> None:
    assert model_kind(loaded) == kind


@pytest.mark.parametrize(
    ("high", "low", "kind"), [(I2V, I2V, "i2v"), (T2V, T2V, "t2v"), (TI2V_5B, None, "ti2v_5b"), (VACE, VACE, "vace")]
)
def test_pairs_that_belong_together(high: Any, low: Any, kind: str) -> None:
    assert check_models(high, low) == kind


@pytest.mark.parametrize(
    ("high", "low", "sentence"),
    [
        (I2V, T2V, "high_noise is a Wan2.2 I2V expert and low_noise is a Wan T2V expert."),
        (T2V, VACE, "high_noise is a Wan T2V expert and low_noise is a Wan VACE model."),
        (I2V, TI2V_5B, "high_noise is a Wan2.2 I2V expert and low_noise is the Wan2.2 TI2V-5B model."),
        (TI2V_5B, I2V, "low_noise must be left empty: high_noise is the Wan2.2 TI2V-5B model, which runs alone."),
        (I2V, FLUX, "low_noise is not a Wan model."),
        (I2V, None, "low_noise is missing: high_noise is a Wan2.2 I2V expert"),
        (FLUX, FLUX, "high_noise must be a Wan2.2 model, and this one is not a Wan model."),
        (
            WAN21_I2V,
            WAN21_I2V,
            "high_noise must be a Wan2.2 model, and this one is a Wan2.1 I2V model (it has an image encoder).",
        ),
    ],
)
def test_pairs_that_do_not(high: Any, low: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(sentence)) as error:
        check_models(high, low)
    assert str(error.value).count(".") - str(error.value).count("2.") == 1


@pytest.mark.parametrize(
    ("kind", "positive", "shape"),
    [
        ("i2v", WITH_IMAGE, (1, 16, 3, 4, 4)),
        ("i2v", WITHOUT + WITH_IMAGE, (2, 16, 3, 4, 4)),
        ("t2v", WITHOUT, (1, 16, 1, 4, 4)),
        ("ti2v_5b", WITHOUT, (1, 48, 2, 4, 4)),
        ("vace", WITHOUT, (1, 16, 3, 4, 4)),
    ],
)
def test_conditioning_and_latents_that_fit(kind: str, positive: list, shape: tuple[int, ...]) -> None:
    check_all(kind, positive, shape)


@pytest.mark.parametrize(
    ("kind", "positive", "shape", "sentence"),
    [
        ("i2v", WITHOUT, (1, 16, 3, 4, 4), "positive must carry a start or end image for an I2V pair"),
        ("t2v", WITH_IMAGE, (1, 16, 3, 4, 4), "positive carries an image, which a T2V pair ignores"),
        ("i2v", WITH_IMAGE, (1, 48, 3, 4, 4), "16 channels for a Wan2.2 I2V expert, not one of shape (1, 48, 3"),
        ("i2v", WITH_IMAGE, (1, 16, 5, 4, 4), "as many latent frames as the image conditioning in positive, 3, not 5"),
        ("ti2v_5b", WITHOUT, (1, 16, 3, 4, 4), "a video latent with 48 channels for the Wan2.2 TI2V-5B model"),
        ("t2v", WITHOUT, (1, 4, 64, 64), "latent must be a video latent with 16 channels"),
    ],
)
def test_conditioning_and_latents_that_do_not(kind: str, positive: list, shape: tuple, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(sentence)):
        check_all(kind, positive, shape)


@pytest.mark.parametrize(
    ("kind", "positive", "negative", "sentence"),
    [
        ("i2v", WITH_IMAGE, WITHOUT, "negative must carry the image too, because cfg is not 1"),
        ("i2v", WITH_IMAGE, LONGER, "as many latent frames as the image conditioning in negative, 5, not 3"),
        ("t2v", WITHOUT, WITH_IMAGE, "negative carries an image, which a T2V pair ignores"),
    ],
)
def test_negative_counts_where_there_is_guidance(kind: str, positive: list, negative: list, sentence: str) -> None:
    check_all(kind, positive, (1, 16, 3, 4, 4), negative, cfgs=(1.0, 1.0))
    for cfgs in ((3.5, 1.0), (1.0, 3.5), (0.0, 1.0)):
        with pytest.raises(InvalidInput, match=re.escape(sentence)):
            check_all(kind, positive, (1, 16, 3, 4, 4), negative, cfgs)


def test_an_image_of_another_size_is_said() -> None:
    assert conditioning_warnings(WITH_IMAGE, torch.zeros(1, 16, 3, 4, 4)) == []
    assert conditioning_warnings(WITH_IMAGE, torch.zeros(1, 16, 3, 6, 8)) == [
        "The image in positive was encoded at 32x32 and its middle is scaled to the latent's 64x48."
    ]
    assert conditioning_warnings(WITH_IMAGE, torch.zeros(1, 16, 3, 8, 8)) == [
        "The image in positive was encoded at 32x32 and is scaled to the latent's 64x64."
    ]
