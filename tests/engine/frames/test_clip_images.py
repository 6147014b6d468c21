"""The clip before, anchors, paddings, keyframes and loops: whole tensors, against constructions written here.

Sources of the layouts: Wan2.2 image2video.py (mask and pixels), SVI 2.0 Pro's wan_video_svi_pro.py (anchor, motion,
zeros in the network's own range), KJNodes' WanImageToVideoSVIPro (the same in ComfyUI's raw latents).
"""

from typing import Any

import comfy.latent_formats
import comfy.sd
import pytest
import torch
from wan_relay.nodes.engine.frames.clip_images import ClipImages, Keyframe
from wan_relay.nodes.engine.frames.image_conditioning import condition_on_images, latent_with_start
from wan_relay.nodes.engine.frames.known_frames import Clip
from wan_relay.nodes.engine.frames.wan_vae import WAN_2_1, WAN_2_2
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.frames.timeline import plan_frames
from wan_relay.toy import layout
from wan_relay.toy.sizes import VaeSize

pytestmark = pytest.mark.comfy
WIDTH, HEIGHT, LENGTH = 64, 32, 17
LATENTS, H, W = 5, HEIGHT // 8, WIDTH // 8


def random_weights(shapes: layout.Shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def vae() -> comfy.sd.VAE:
    return comfy.sd.VAE(sd=random_weights(layout.vae(VaeSize(dim=8))))


def images(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


def latent(frames: int, seed: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 16, frames, H, W, generator=torch.Generator().manual_seed(seed))


def told(vae: comfy.sd.VAE, batch_size: int = 1, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(raw image latents, mask with 1 = known) as the node gives them to the model."""
    pictures = {name: inputs.pop(name, None) for name in ("start_image", "end_image", "previous", "anchor")}
    given, warnings = ClipImages.checked(pictures, **({"overlap": 5} | inputs))
    assert warnings == []
    known, _ = given.placed(plan_frames(given.given, LENGTH)).within(LENGTH)
    clip = Clip(WIDTH, HEIGHT, LENGTH, batch_size, "crop")
    prompt = [[torch.ones(1, 4, 8), {}]]
    positive, negative, empty = condition_on_images(prompt, prompt, vae, WAN_2_1, known, clip)
    assert torch.equal(empty["samples"], torch.zeros(batch_size, 16, LATENTS, H, W))
    extra = positive[0][1]
    assert negative[0][1].keys() == extra.keys() == {"concat_latent_image", "concat_mask"}
    assert all(torch.equal(negative[0][1][name], extra[name]) for name in extra)
    return extra["concat_latent_image"], 1 - extra["concat_mask"]


def reference_mask(known: list[int]) -> torch.Tensor:
    """[1, 4, T, h, w], as Wan2.2 image2video.py builds it, for any set of known pixel frames."""
    mask = torch.zeros(1, LENGTH, H, W)
    mask[:, known] = 1
    mask = torch.cat([mask[:, :1].repeat_interleave(4, dim=1), mask[:, 1:]], dim=1)
    return mask.view(1, LATENTS, 4, H, W).transpose(1, 2)


def encoded(vae: comfy.sd.VAE, known: dict[int, torch.Tensor], background: torch.Tensor | float = 0.0) -> torch.Tensor:
    """The reference's y: frames of [H, W, 3] in 0..1 by number, in a video of -1..1 that is `background` elsewhere."""
    video = torch.zeros(3, LENGTH, HEIGHT, WIDTH)
    video += background if isinstance(background, float) else (background.movedim(-1, 0) * 2 - 1)[:, None]
    for frame, picture in known.items():
        video[:, frame] = picture.movedim(-1, 0) * 2 - 1
    return vae.first_stage_model.encode(video[None].to(vae.vae_dtype)).float().detach()


def assert_told(got: tuple[torch.Tensor, torch.Tensor], latents: torch.Tensor, known: list[int]) -> None:
    torch.testing.assert_close(got[0], latents, atol=1e-6, rtol=0)
    assert torch.equal(got[1], reference_mask(known))


@pytest.mark.parametrize("overlap", [1, 5, 9])
def test_the_last_frames_before_are_the_first_ones(vae: comfy.sd.VAE, overlap: int) -> None:
    before = images(21, 1)
    frames = dict(enumerate(before[21 - overlap :]))
    assert_told(told(vae, previous=before, overlap=overlap), encoded(vae, frames), list(frames))


def test_keyframes_beside_a_start_and_an_end(vae: comfy.sd.VAE) -> None:
    start, end, middle, late = (images(1, seed) for seed in (1, 2, 3, 4))
    got = told(vae, start_image=start, end_image=end, keyframes=(Keyframe(late, -5), Keyframe(middle, 4)))
    assert_told(got, encoded(vae, {0: start[0], 4: middle[0], 12: late[0], 16: end[0]}), [0, 4, 12, 16])
    assert got[1][0, :, :, 0, 0].T.tolist() == [[1] * 4, [0, 0, 0, 1], [0] * 4, [0, 0, 0, 1], [0, 0, 0, 1]]


def test_keyframes_alone_can_be_start_and_end(vae: comfy.sd.VAE) -> None:
    start, end = images(1, 1), images(1, 2)
    ours = told(vae, keyframes=(Keyframe(start, 0), Keyframe(end, -1)))
    assert all(map(torch.equal, ours, told(vae, start_image=start, end_image=end)))


def test_a_loop_ends_as_it_begins(vae: comfy.sd.VAE) -> None:
    start = images(2, 1)
    got = told(vae, start_image=start, loop=True)
    assert_told(got, encoded(vae, {0: start[0], 1: start[1], 16: start[0]}), [0, 1, 16])


def test_the_last_clip_of_a_loop_ends_with_the_first_frame_of_the_first(vae: comfy.sd.VAE) -> None:
    before, start = images(9, 1), images(2, 2)
    looped = told(vae, previous=before, end_image=start, loop=True)
    assert all(map(torch.equal, looped, told(vae, previous=before, end_image=start[:1])))


def test_of_several_anchors_the_first_is_used() -> None:
    given, said = ClipImages.checked({"anchor": images(2, 1)})
    assert said == ["anchor has 2 images; the first is used."]
    assert given.anchor is not None
    assert torch.equal(given.anchor, images(2, 1)[:1])


def svi_pro(vae: comfy.sd.VAE, anchor: torch.Tensor, motion: torch.Tensor | None) -> torch.Tensor:
    """The authors' y without its mask: normalised latents of the anchor, the motion, and zeros."""
    wan = comfy.latent_formats.Wan21()
    still = (anchor.movedim(-1, 1)[:, :, None] * 2 - 1).to(vae.vae_dtype)
    parts = [wan.process_in(vae.first_stage_model.encode(still).float())]
    if motion is not None:
        parts = [parts[0].repeat(len(motion), 1, 1, 1, 1), wan.process_in(motion)]
    rest = LATENTS - sum(part.shape[2] for part in parts)
    return torch.cat([*parts, torch.zeros(len(parts[-1]), 16, rest, H, W)], dim=2)


def svi_mask() -> torch.Tensor:
    """The authors' msk: one known pixel frame, repeated to the four places of the first latent frame."""
    mask = torch.zeros(1, 4, LATENTS, H, W)
    mask[:, :, 0] = 1
    return mask


@pytest.mark.parametrize(("overlap", "latents"), [(5, 1), (9, 2)])
def test_svi_pro_goes_on_from_the_latent_before(vae: comfy.sd.VAE, overlap: int, latents: int) -> None:
    anchor, before = images(1, 1), latent(7, 2)
    got, mask = told(vae, anchor=anchor, previous_latent={"samples": before}, overlap=overlap, padding="zero")
    seen = comfy.latent_formats.Wan21().process_in(got)
    torch.testing.assert_close(seen, svi_pro(vae, anchor, before[:, :, -latents:]), atol=2e-6, rtol=0)
    assert torch.equal(mask, svi_mask())


def test_svi_pro_equals_the_kjnodes_layout(vae: comfy.sd.VAE) -> None:
    """In raw latents: the anchor's, the last latent frame before, and what ComfyUI normalises to zero."""
    anchor, before = images(1, 1), latent(7, 2)
    rest = comfy.latent_formats.Wan21().process_out(torch.zeros(1, 16, LATENTS - 2, H, W))
    wanted = torch.cat([vae.encode(anchor), before[:, :, -1:], rest], dim=2)
    got, _ = told(vae, anchor=anchor, previous_latent={"samples": before}, padding="zero")
    assert torch.equal(got, wanted)


def test_the_first_clip_of_svi_pro_has_the_anchor_alone(vae: comfy.sd.VAE) -> None:
    got, mask = told(vae, anchor=images(1, 1), padding="zero")
    seen = comfy.latent_formats.Wan21().process_in(got)
    torch.testing.assert_close(seen, svi_pro(vae, images(1, 1), None), atol=2e-6, rtol=0)
    assert torch.equal(mask, svi_mask())


def test_svi_pro_from_frames_encodes_their_motion(vae: comfy.sd.VAE) -> None:
    anchor, before = images(1, 1), images(20, 2)
    got, mask = told(vae, anchor=anchor, previous=before, padding="zero")
    motion = vae.encode(before[-5:])[:, :, 1:]
    assert motion.shape[2] == 1
    seen = comfy.latent_formats.Wan21().process_in(got)
    torch.testing.assert_close(seen, svi_pro(vae, anchor, motion), atol=2e-6, rtol=0)
    assert torch.equal(mask, svi_mask())


def test_each_video_of_a_batch_goes_on_from_its_own(vae: comfy.sd.VAE) -> None:
    anchor, before = images(1, 1), latent(7, 2, batch=2)
    got, _ = told(vae, 2, anchor=anchor, previous_latent={"samples": before}, padding="zero")
    seen = comfy.latent_formats.Wan21().process_in(got)
    torch.testing.assert_close(seen, svi_pro(vae, anchor, before[:, :, -1:]), atol=2e-6, rtol=0)


def test_an_anchor_in_grey_is_a_start_image_with_motion_behind(vae: comfy.sd.VAE) -> None:
    anchor, before = images(1, 1), latent(7, 2)
    wanted = encoded(vae, {0: anchor[0]})
    assert_told(told(vae, anchor=anchor), wanted, [0])
    wanted[:, :, 1] = before[:, :, -1]
    assert_told(told(vae, anchor=anchor, previous_latent={"samples": before}), wanted, [0])


def test_zero_padding_keeps_an_end_and_keyframes(vae: comfy.sd.VAE) -> None:
    """Latent frames with a known frame are those of the grey video; all others are zeros for the network."""
    start, middle, end = (images(1, seed) for seed in (1, 2, 3))
    wanted = comfy.latent_formats.Wan21().process_in(encoded(vae, {0: start[0], 8: middle[0], 16: end[0]}))
    wanted[:, :, [1, 3]] = 0
    got, mask = told(vae, start_image=start, end_image=end, keyframes=(Keyframe(middle, 8),), padding="zero")
    seen = comfy.latent_formats.Wan21().process_in(got)
    torch.testing.assert_close(seen, wanted, atol=2e-6, rtol=0)
    assert torch.equal(mask, reference_mask([0, 8, 16]))


def test_reference_padding_shows_the_anchor_where_nothing_is_known(vae: comfy.sd.VAE) -> None:
    anchor, before, end = images(1, 1), images(9, 2), images(1, 3)
    frames = dict(enumerate(before[-5:])) | {16: end[0]}
    got = told(vae, anchor=anchor, previous=before, end_image=end, padding="reference")
    assert_told(got, encoded(vae, frames, anchor[0]), list(frames))
    assert_told(told(vae, anchor=anchor, padding="reference"), encoded(vae, {}, anchor[0]), [0])


def test_reference_padding_without_an_anchor_is_the_start_image(vae: comfy.sd.VAE) -> None:
    start = images(2, 1)
    got = told(vae, start_image=start, padding="reference")
    assert_told(got, encoded(vae, {0: start[0], 1: start[1]}, start[0]), [0, 1])


def test_5b_goes_on_from_the_last_frames_before() -> None:
    vae = comfy.sd.VAE(sd=random_weights(layout.tiny_vae()))
    clip, before = Clip(WIDTH, HEIGHT, LENGTH, 1, "crop"), images(12, 1)
    given, _ = ClipImages.checked({"previous": before}, overlap=5)
    ours, said = latent_with_start(vae, WAN_2_2, given.placed(plan_frames(given.given, LENGTH, True)), clip)
    start, _ = ClipImages.checked({"start_image": before[-5:]})
    wanted, _ = latent_with_start(vae, WAN_2_2, start.placed(plan_frames(start.given, LENGTH, True)), clip)
    assert said == []
    assert torch.equal(ours["samples"], wanted["samples"])
    assert torch.equal(ours["noise_mask"][0, 0, :, 0, 0], torch.tensor([0.0, 0, 1, 1, 1]))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"keyframes": (Keyframe(images(2, 1), 8),)}, "keyframe 8 must be one image, got 2."),
        ({"keyframes": (Keyframe(images(1, 1) * 9, 8),)}, "keyframe 8 must have values from 0 to 1"),
        ({"previous_latent": {"samples": torch.zeros(1, 48, 3, H, W)}}, "previous_latent must be a video latent of"),
        ({"previous_latent": {"samples": torch.zeros(1, 16, H, W)}}, "previous_latent must be a video latent of"),
        (
            {"anchor": images(1, 1), "previous_latent": {"samples": torch.zeros(1, 16, 3, H, W + 2)}},
            "previous_latent must be of 64x32 pixels as this clip, got 80x32.",
        ),
        (
            {"anchor": images(1, 1), "previous_latent": {"samples": torch.zeros(3, 16, 3, H, W)}},
            "previous_latent must have one video or batch_size 1, got 3.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(vae: comfy.sd.VAE, inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        told(vae, **inputs)
    assert words in str(refused.value)
