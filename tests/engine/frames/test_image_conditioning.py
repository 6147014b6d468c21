"""Whole-tensor comparisons with ComfyUI's nodes where they are right, and with the reference's own construction."""

import comfy.latent_formats
import comfy.sd
import pytest
import torch
from comfy_extras.nodes_wan import Wan22ImageToVideoLatent, WanFirstLastFrameToVideo, WanImageToVideo
from wan_relay.nodes.engine.frames.image_conditioning import condition_on_images, latent_with_start
from wan_relay.nodes.engine.frames.known_frames import Clip, KnownFrames
from wan_relay.nodes.engine.frames.wan_vae import WAN_2_1, WAN_2_2, recognise_wan_vae
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.toy import layout
from wan_relay.toy.sizes import VaeSize

pytestmark = pytest.mark.comfy
WIDTH, HEIGHT = 64, 48


def random_weights(shapes: layout.Shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def vae() -> comfy.sd.VAE:
    return comfy.sd.VAE(sd=random_weights(layout.vae(VaeSize(dim=8))))


@pytest.fixture(scope="module")
def vae_5b() -> comfy.sd.VAE:
    return comfy.sd.VAE(sd=random_weights(layout.tiny_vae()))


def prompt() -> list:
    return [[torch.ones(1, 4, 8), {"pooled_output": None}]]


def images(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


def reference_mask(known: list[int], length: int) -> torch.Tensor:
    """[4, T, h, w], 1 = known, built as Wan2.2 image2video.py does, for any set of known pixel frames."""
    mask = torch.zeros(1, length, HEIGHT // 8, WIDTH // 8)
    mask[:, known] = 1
    mask = torch.cat([mask[:, :1].repeat_interleave(4, dim=1), mask[:, 1:]], dim=1)
    return mask.view(1, mask.shape[1] // 4, 4, HEIGHT // 8, WIDTH // 8).transpose(1, 2)[0]


def reference_pixels(start: torch.Tensor | None, end: torch.Tensor | None, length: int) -> torch.Tensor:
    """[3, length, H, W] in -1..1 with zeros between, as the reference concatenates them."""
    given = [] if start is None else [start.movedim(-1, 0) * 2 - 1]
    closing = [] if end is None else [end.movedim(-1, 0) * 2 - 1]
    between = length - sum(part.shape[1] for part in given + closing)
    return torch.cat([*given, torch.zeros(3, between, HEIGHT, WIDTH), *closing], dim=1)


CASES = [(1, 0, 9), (1, 1, 9), (0, 1, 9), (5, 0, 17), (3, 0, 9), (0, 2, 9), (2, 6, 17), (1, 1, 5), (1, 0, 1), (4, 5, 9)]


@pytest.mark.parametrize(("n_start", "n_end", "length"), CASES)
def test_network_sees_the_reference_channels(vae: comfy.sd.VAE, n_start: int, n_end: int, length: int) -> None:
    start = images(n_start, 1) if n_start else None
    end = images(n_end, 2) if n_end else None
    positive, negative, latent = condition_on_images(
        prompt(), prompt(), vae, WAN_2_1, KnownFrames(start, end), Clip(WIDTH, HEIGHT, length, 2, "crop")
    )

    known = [*range(n_start), *range(length - n_end, length)]
    pixels = reference_pixels(start, end, length)
    reference_latent = vae.first_stage_model.encode(pixels[None].to(vae.vae_dtype)).float()
    for conditioning in (positive, negative):
        extra = conditioning[0][1]
        assert torch.equal(1 - extra["concat_mask"][0], reference_mask(known, length))
        assert torch.allclose(extra["concat_latent_image"], reference_latent, atol=1e-6)
        assert extra["pooled_output"] is None
    assert torch.equal(latent["samples"], torch.zeros(2, 16, (length - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8))
    assert set(latent) == {"samples"}


@pytest.mark.parametrize(("n_start", "n_end", "length"), [case for case in CASES if case != (1, 0, 1)])
def test_equals_core_first_last_frame(vae: comfy.sd.VAE, n_start: int, n_end: int, length: int) -> None:
    start = images(n_start, 1) if n_start else None
    end = images(n_end, 2) if n_end else None
    ours = condition_on_images(
        prompt(), prompt(), vae, WAN_2_1, KnownFrames(start, end), Clip(WIDTH, HEIGHT, length, 2, "crop")
    )
    core = WanFirstLastFrameToVideo.execute(prompt(), prompt(), vae, WIDTH, HEIGHT, length, 2, start, end).args
    assert_same(ours, core)


@pytest.mark.parametrize(("n_start", "length"), [(1, 1), (1, 9), (5, 17), (9, 9)])
def test_equals_core_image_to_video(vae: comfy.sd.VAE, n_start: int, length: int) -> None:
    """Core's one-channel mask is the same where the start frames fill whole latent frames; the network repeats it."""
    start = images(n_start, 1)
    ours = condition_on_images(
        prompt(), prompt(), vae, WAN_2_1, KnownFrames(start, None), Clip(WIDTH, HEIGHT, length, 1, "crop")
    )
    core = WanImageToVideo.execute(prompt(), prompt(), vae, WIDTH, HEIGHT, length, 1, start).args
    for conditioning in core[:2]:
        conditioning[0][1]["concat_mask"] = conditioning[0][1]["concat_mask"].repeat(1, 4, 1, 1, 1)
    assert_same(ours, core)


def assert_same(ours: tuple, core: tuple) -> None:
    for mine, theirs in zip(ours[:2], core[:2], strict=True):
        assert torch.equal(mine[0][0], theirs[0][0])
        assert mine[0][1].keys() == theirs[0][1].keys()
        for key in ("concat_latent_image", "concat_mask"):
            assert torch.equal(mine[0][1][key], theirs[0][1][key]), key
    assert ours[2].keys() == core[2].keys()
    assert torch.equal(ours[2]["samples"], core[2]["samples"])


def test_without_images_the_prompts_are_untouched(vae: comfy.sd.VAE) -> None:
    positive, negative = prompt(), prompt()
    got = condition_on_images(
        positive, negative, vae, WAN_2_1, KnownFrames(None, None), Clip(WIDTH, HEIGHT, 9, 3, "crop")
    )
    assert got[0] is positive
    assert got[1] is negative
    assert torch.equal(got[2]["samples"], torch.zeros(3, 16, 3, 6, 8))


def test_prompts_from_upstream_are_not_changed(vae: comfy.sd.VAE) -> None:
    positive = prompt()
    condition_on_images(
        positive, prompt(), vae, WAN_2_1, KnownFrames(images(1, 1), None), Clip(WIDTH, HEIGHT, 5, 1, "crop")
    )
    assert positive[0][1].keys() == {"pooled_output"}


def test_an_end_image_is_channel_3_of_the_last_latent_frame_only() -> None:
    mask = KnownFrames(images(1, 1), images(1, 2)).mask(Clip(WIDTH, HEIGHT, 81, 1, "crop"), WAN_2_1)
    known = torch.zeros(1, 4, 21, 6, 8)
    known[:, :, 0] = 1
    known[:, 3, 20] = 1
    assert torch.equal(1 - mask, known)


def test_too_many_frames_are_cut_and_said() -> None:
    start, end = images(12, 1), images(11, 2)
    kept, warnings = KnownFrames(start).within(9)
    assert kept.end is None
    assert kept.start is not None
    assert torch.equal(kept.start, start[:9])
    assert warnings == [
        "start_image has 12 frames; the first 9 are used.",
        "Every frame is given, so nothing is left for the model to make.",
    ]
    kept, warnings = KnownFrames(None, end).within(9)
    assert kept.end is not None
    assert torch.equal(kept.end, end[-9:])
    assert warnings[0] == "end_image has 11 frames; the last 9 are used."
    assert KnownFrames(start[:7], end[:1]).within(9)[1] == []
    assert KnownFrames(start[:8], end[:1]).within(9)[1] == warnings[1:]


@pytest.mark.parametrize(("n_start", "n_end", "length"), [(1, 1, 1), (8, 2, 9), (20, 1, 9)])
def test_overlapping_start_and_end_are_refused(n_start: int, n_end: int, length: int) -> None:
    words = f"length {length} must hold start_image and end_image, but they have {n_start} and {n_end} frames"
    with pytest.raises(InvalidInput, match=words):
        KnownFrames(images(n_start, 1), images(n_end, 2)).within(length)


@pytest.mark.parametrize(("n_start", "length", "batch_size"), [(1, 9, 1), (1, 9, 3), (5, 17, 2), (1, 1, 1)])
def test_5b_equals_core(vae_5b: comfy.sd.VAE, n_start: int, length: int, batch_size: int) -> None:
    start = images(n_start, 1)[:, :32]
    ours, warnings = latent_with_start(vae_5b, WAN_2_2, KnownFrames(start), Clip(WIDTH, 32, length, batch_size, "crop"))
    core = Wan22ImageToVideoLatent.execute(vae_5b, WIDTH, 32, length, batch_size, start).args[0]
    assert warnings == []
    assert ours.keys() == core.keys()
    assert torch.equal(ours["samples"], core["samples"])
    assert torch.equal(ours["noise_mask"], core["noise_mask"])


def test_5b_unknown_frames_are_zero_for_the_network(vae_5b: comfy.sd.VAE) -> None:
    latent, _ = latent_with_start(vae_5b, WAN_2_2, KnownFrames(images(1, 1)[:, :32]), Clip(WIDTH, 32, 9, 1, "crop"))
    seen = comfy.latent_formats.Wan22().process_in(latent["samples"])
    assert seen[:, :, 1:].abs().max() < 1e-6
    assert torch.equal(latent["noise_mask"][0, 0, :, 0, 0], torch.tensor([0.0, 1, 1]))


def test_5b_without_an_image_honours_the_batch_size(vae_5b: comfy.sd.VAE) -> None:
    latent, _ = latent_with_start(vae_5b, WAN_2_2, KnownFrames(), Clip(WIDTH, 32, 9, 3, "crop"))
    assert latent.keys() == {"samples"}
    assert torch.equal(latent["samples"], torch.zeros(3, 48, 3, 2, 4))
    core = Wan22ImageToVideoLatent.execute(vae_5b, WIDTH, 32, 9, 3).args[0]
    assert len(core["samples"]) == 1  # what this is about


def test_5b_says_which_frames_the_vae_cannot_pack(vae_5b: comfy.sd.VAE) -> None:
    start = images(7, 1)[:, :32]
    clip = Clip(WIDTH, 32, 17, 1, "crop")
    ours, warnings = latent_with_start(vae_5b, WAN_2_2, KnownFrames(start), clip)
    five, _ = latent_with_start(vae_5b, WAN_2_2, KnownFrames(start[:5]), clip)
    assert torch.equal(ours["samples"], five["samples"])
    assert warnings == ["start_image has 7 frames; the VAE packs 1, 5, 9 ..., so the first 5 are used."]


def test_wan_vaes_are_recognised(vae: comfy.sd.VAE, vae_5b: comfy.sd.VAE) -> None:
    assert recognise_wan_vae(vae) is WAN_2_1
    assert recognise_wan_vae(vae_5b) is WAN_2_2


def test_the_full_wan_2_2_vae_is_recognised(vae: comfy.sd.VAE) -> None:
    import comfy.ldm.wan.vae2_2

    with torch.device("meta"):
        network = comfy.ldm.wan.vae2_2.WanVAE(dim=8, z_dim=48, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    vae_2_2 = object.__new__(comfy.sd.VAE)
    vae_2_2.first_stage_model = network
    assert recognise_wan_vae(vae_2_2) is WAN_2_2


def test_other_vaes_are_refused_by_name() -> None:
    shapes = layout.tiny_vae(latent_channels=16)
    shapes |= {"encoder.0.weight": (64, 3, 3, 3), "decoder.22.weight": (3, 64, 3, 3), "decoder.22.bias": (3,)}
    hunyuan = {name: tensor.half() for name, tensor in random_weights(shapes).items()}
    with pytest.raises(InvalidInput, match="got a TAEHV of 16 latent channels and 3 image channels"):
        recognise_wan_vae(comfy.sd.VAE(sd=hunyuan))
    with pytest.raises(InvalidInput, match="the file that it came from holds no VAE"):
        recognise_wan_vae(comfy.sd.VAE(sd={}))
    four_channels = random_weights(layout.vae(VaeSize(dim=8)))
    four_channels["encoder.conv1.weight"] = torch.zeros(8, 4, 3, 3, 3)
    with pytest.raises(InvalidInput, match="got a WanVAE of 16 latent channels and 4 image channels"):
        recognise_wan_vae(comfy.sd.VAE(sd=four_channels))
