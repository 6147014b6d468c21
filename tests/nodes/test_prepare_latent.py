"""The node as a whole: schema, sizes, warnings, and what a real model then sees."""

from pathlib import Path
from typing import Any

import comfy.sample
import comfy.sd
import comfy.utils
import pytest
import torch
from comfy_extras.nodes_wan import WanFirstLastFrameToVideo
from wan_relay.nodes.keyframe import KeyframeNode
from wan_relay.nodes.prepare_latent import PrepareLatent
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.timeline import LOOP_SHOWN_TWICE, LOOSE

pytestmark = pytest.mark.comfy

ONE_FILE = (
    "batch_size 2: VAE Decode puts the 2 videos one after the other, and Save Video writes a file for each where its "
    "videos is 2."
)


def load_vae(path: Path) -> comfy.sd.VAE:
    tensors, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
    return comfy.sd.VAE(sd=tensors, metadata=metadata)


@pytest.fixture(scope="module")
def vae(toy_models: Path) -> comfy.sd.VAE:
    return load_vae(toy_models / "vae" / "toy_wan_2.1_vae.safetensors")


@pytest.fixture(scope="module")
def vae_5b(toy_models: Path) -> comfy.sd.VAE:
    return load_vae(toy_models / "vae" / "toy_wan2.2_vae.safetensors")


def prompt() -> list:
    return [[torch.ones(1, 16, 64), {"pooled_output": None}]]


def picture(width: int, height: int, seed: int = 1, count: int = 1, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(seed))


def prepare(vae: comfy.sd.VAE, **inputs: Any) -> tuple[Any, dict]:
    defaults: dict[str, Any] = {
        "sizing": "fixed",
        "width": 64,
        "height": 48,
        "fit": "crop",
        "length": 9,
        "batch_size": 1,
    }
    output = PrepareLatent.execute(prompt(), prompt(), vae, **(defaults | inputs))
    assert output.ui is not None
    return output.args, output.ui["wan_relay"][0]


def test_schema_is_the_contract() -> None:
    info = PrepareLatent.GET_NODE_INFO_V1()
    required, optional = info["input"]["required"], info["input"]["optional"]
    assert info["name"] == "WanRelay_PrepareLatent"
    assert info["category"] == "wan relay"
    assert {name: spec[1].get("default") for name, spec in required.items()} == {
        "positive": None, "negative": None, "vae": None, "sizing": "match image", "width": 528, "height": 768,
        "fit": "crop", "length": 81, "batch_size": 1,
    }  # fmt: skip
    assert {name: spec[1].get("default") for name, spec in optional.items()} == {
        "start_image": None, "end_image": None, "previous": None, "overlap": 1, "anchor": None, "padding": "grey",
        "keyframes": None, "loop": False, "previous_latent": None, "crop_position": "center",
    }  # fmt: skip
    assert list(optional)[:2] == ["start_image", "end_image"]
    assert info["output_name"] == ["positive", "negative", "latent", "width", "height", "length"]
    assert all(spec[1].get("tooltip") for spec in (required | optional).values())
    assert all(info["output_tooltips"])


def test_report_and_outputs_carry_the_resolved_values(vae: comfy.sd.VAE) -> None:
    (*_, latent, width, height, length), report = prepare(
        vae,
        sizing="match image",
        width=100,
        height=60,
        length=11,
        batch_size=2,
        start_image=picture(160, 90, channels=4),
        end_image=picture(30, 30),
    )
    assert (width, height, length) == (96, 48, 13)
    assert latent["samples"].shape == (2, 16, 4, 6, 12)
    found = [
        "start_image has an alpha channel; it is dropped and the colour is used as it is.",
        "end_image of 30x30 loses 50.0% of its height to fill 96x48.",
        ONE_FILE,
    ]
    assert report == {
        "image_width": 160,
        "image_height": 90,
        "width": 96,
        "height": 48,
        "fit": "crop",
        "sizing": "match image",
        "length": 13,
        "duration_s": 13 / 16,
        "batch_size": 2,
        "timeline": [
            {"kind": "known", "first": 0, "last": 0},
            {"kind": "unknown", "first": 1, "last": 11},
            {"kind": "known", "first": 12, "last": 12},
        ],
        "warnings": [
            "length 11 is not of the form 4n+1; 13 frames are made.",
            "start_image of 160x90 loses 11.1% of its height to fill 96x48.",
            *found,
        ],
        "found": found,
    }


def test_text_to_video_says_nothing_and_changes_nothing(vae: comfy.sd.VAE) -> None:
    (positive, negative, latent, *_), report = prepare(vae)
    assert [positive[0][1], negative[0][1]] == [{"pooled_output": None}] * 2
    assert torch.equal(latent["samples"], torch.zeros(1, 16, 3, 6, 8))
    assert report["warnings"] == []
    assert report["image_width"] is report["image_height"] is None


def test_an_end_image_alone_gives_the_aspect(vae: comfy.sd.VAE) -> None:
    (*_, width, height, _), report = prepare(vae, sizing="match image", end_image=picture(90, 160))
    assert (width, height) == (32, 64)
    assert (report["image_width"], report["image_height"]) == (90, 160)


def test_a_clip_that_goes_on_is_as_large_as_the_one_before(vae: comfy.sd.VAE) -> None:
    (*_, width, height, _), report = prepare(
        vae, sizing="match image", anchor=picture(20, 90), previous=picture(90, 60, count=6), overlap=6, padding="zero"
    )
    assert (width, height) == (64, 32)
    assert report["timeline"] == [
        {"kind": "anchor", "first": 0, "last": 0},
        {"kind": "overlap", "first": 1, "last": 4},
        {"kind": "unknown", "first": 5, "last": 8},
    ]
    assert report["warnings"] == [
        "previous of 90x60 loses 25.6% of its height to fill 64x32.",
        "overlap 6 is brought to 5: whole latent frames.",
        "anchor of 20x90 loses 88.9% of its height to fill 64x32.",
    ]
    assert report["found"] == report["warnings"][2:]


def test_a_loop_and_keyframes_say_what_to_expect(vae: comfy.sd.VAE) -> None:
    keyframes = KeyframeNode.execute(picture(64, 48, 2), 3).args[0]
    keyframes = KeyframeNode.execute(picture(32, 48, 3), -13, keyframes).args[0]
    assert [keyframe.frame for keyframe in keyframes] == [3, -13]
    _, report = prepare(vae, length=21, start_image=picture(64, 48), loop=True, keyframes=keyframes)
    assert [(span["kind"], span["first"]) for span in report["timeline"]] == [
        ("known", 0), ("unknown", 1), ("keyframe", 4), ("unknown", 5), ("keyframe", 8), ("unknown", 9), ("known", 20),
    ]  # fmt: skip
    assert report["warnings"] == [
        "keyframe 3 is put at frame 4: the latent grid holds every fourth.",
        LOOSE,
        LOOP_SHOWN_TWICE,
        "keyframe 8 of 32x48 loses 50.0% of its height to fill 64x48.",
    ]


def test_the_part_of_the_image_that_stays_is_chosen(vae: comfy.sd.VAE) -> None:
    image = picture(128, 48)
    seen = {
        position: prepare(vae, start_image=image, crop_position=position)[0][0][0][1]["concat_latent_image"]
        for position in ("left", "center", "right")
    }
    for position, left in (("left", 0), ("center", 32), ("right", 64)):
        cut = prepare(vae, start_image=image[:, :, left : left + 64])[0][0][0][1]["concat_latent_image"]
        assert torch.allclose(seen[position], cut, atol=1e-4)
    default = prepare(vae, start_image=image)[0][0][0][1]["concat_latent_image"]
    assert torch.equal(default, seen["center"])


@pytest.mark.parametrize("others", ["keyframes", "reference", "motion"])
def test_every_picture_is_cut_at_the_place_that_was_chosen(vae: comfy.sd.VAE, others: str) -> None:
    wide, size = picture(128, 48), {"width": 64, "height": 48, "length": 9, "sizing": "fixed"}
    several = picture(128, 48, seed=2, count=5)

    def told(start: slice, position: str) -> torch.Tensor:
        image, clip = wide[:, :, start], several[:, :, start]
        given: dict[str, Any] = {
            "keyframes": {"keyframes": KeyframeNode.execute(image, 4).args[0]},
            "reference": {"start_image": image, "padding": "reference"},
            "motion": {"anchor": image, "previous": clip, "overlap": 5, "padding": "zero"},
        }[others]
        positive = prepare(vae, **size, **given, crop_position=position)[0][0]
        latent: torch.Tensor = positive[0][1]["concat_latent_image"]
        return latent

    for position, left in (("left", 0), ("right", 64)):
        expected = told(slice(left, left + 64), "center")
        torch.testing.assert_close(told(slice(None), position), expected, rtol=0, atol=1e-4)


def test_the_end_image_survives_any_length(vae: comfy.sd.VAE) -> None:
    """Core drops it at 8, 80, ...: its VAE encodes 5 of 8 frames while the mask says that the last one is known."""
    start, end = picture(64, 48), picture(64, 48, seed=2)
    (positive, *_, length), _ = prepare(vae, length=8, start_image=start, end_image=end)
    assert length == 9
    known = positive[0][1]
    right = WanFirstLastFrameToVideo.execute(prompt(), prompt(), vae, 64, 48, 9, 1, start, end).args[0][0][1]
    assert torch.equal(known["concat_latent_image"], right["concat_latent_image"])
    assert torch.equal(known["concat_mask"], right["concat_mask"])

    core = WanFirstLastFrameToVideo.execute(prompt(), prompt(), vae, 64, 48, 8, 1, start, end).args[0][0][1]
    without = WanFirstLastFrameToVideo.execute(prompt(), prompt(), vae, 64, 48, 8, 1, start).args[0][0][1]
    assert torch.equal(core["concat_latent_image"], without["concat_latent_image"])


def test_the_network_gets_20_channels_in_the_reference_order(vae: comfy.sd.VAE, toy_models: Path) -> None:
    path = toy_models / "diffusion_models" / "toy_wan2.2_i2v_high_noise.safetensors"
    network = comfy.sd.load_diffusion_model(str(path)).model
    (positive, _, latent, *_), _ = prepare(vae, start_image=picture(64, 48), end_image=picture(64, 48, seed=2))
    known = positive[0][1]
    seen = network.concat_cond(noise=latent["samples"], device=torch.device("cpu"), **known)

    mask = torch.zeros(1, 4, 3, 6, 8)
    mask[:, :, 0] = 1
    mask[:, 3, 2] = 1
    image = network.process_latent_in(known["concat_latent_image"])
    assert torch.equal(seen, torch.cat([mask, image], dim=1))


def test_5b_keeps_its_first_frame_through_sampling(vae_5b: comfy.sd.VAE, toy_models: Path) -> None:
    path = toy_models / "diffusion_models" / "toy_wan2.2_ti2v_5b.safetensors"
    model = comfy.sd.load_diffusion_model(str(path))
    (positive, negative, latent, width, height, _), report = prepare(
        vae_5b, width=70, height=50, batch_size=2, start_image=picture(64, 64)
    )
    assert (width, height) == (64, 64)
    assert report["warnings"] == [
        "width 70 is not a multiple of 32; 64 is used.",
        "height 50 is not a multiple of 32; 64 is used.",
        ONE_FILE,
    ]
    noise = comfy.sample.prepare_noise(latent["samples"], 1)
    sampled = comfy.sample.sample(
        model, noise, 2, 1.0, "euler", "simple", positive, negative, latent["samples"], noise_mask=latent["noise_mask"]
    )
    assert sampled.shape == (2, 48, 3, 4, 4)
    assert torch.allclose(sampled[:, :, 0], latent["samples"][:, :, 0], atol=1e-4)
    assert (sampled[:, :, 1:] - latent["samples"][:, :, 1:]).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"sizing": "match image", "start_image": picture(600, 1)}, "an image of 600x1 leaves a side shorter than 16"),
        ({"length": 1, "start_image": picture(8, 8), "end_image": picture(8, 8)}, "length 1 must hold start_image and"),
        (
            {"length": 5, "start_image": picture(8, 8), "previous": picture(8, 8)},
            "start_image must stay empty with previous",
        ),
        (
            {"length": 5, "previous": picture(8, 8, count=9), "overlap": 5},
            "overlap takes 5 frames and leaves none of length 5",
        ),
        ({"length": 0}, "length must be at least 1 frame, got 0"),
        ({"start_image": picture(8, 8) * 255}, "start_image must have values from 0 to 1"),
        ({"end_image": picture(8, 8, channels=5)}, "end_image must have 1 to 4 channels, got 5"),
        ({"fit": "fill", "start_image": picture(8, 8)}, "fit must be 'crop', 'pad' or 'stretch', got 'fill'"),
    ],
)
def test_what_cannot_work_is_said(vae: comfy.sd.VAE, inputs: dict, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        prepare(vae, **inputs)


def test_an_end_image_with_the_5b_vae_is_refused(vae_5b: comfy.sd.VAE) -> None:
    with pytest.raises(InvalidInput, match=r"end_image must stay empty with wan2\.2_vae"):
        prepare(vae_5b, end_image=picture(64, 64))


def test_another_vae_is_refused_before_anything_else() -> None:
    with pytest.raises(InvalidInput, match="vae must be a Wan VAE"):
        prepare(comfy.sd.VAE(sd={}), length=0)
