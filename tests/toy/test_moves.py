"""The toy family's data: every move is what its name says, by eye (optical flow) and by the geometry that is fitted."""

import random

import pytest
import torch
from wan_relay.toy import captions
from wan_relay.toy.training import data
from wan_relay.toy.training.attention_heads import COLUMN, ROW, frequency
from wan_relay.toy.training.expert_fits import source_lanes
from wan_relay.toy.training.lanes import SPEED, TURN
from wan_relay.toy.training.patch_shift import HEIGHT, MARGIN, PATCH_PIXELS, WIDTH, Camera
from wan_relay.toy.training.quality import seen_move
from wan_relay.toy.training.source import source, way
from wan_relay.toy.wan_vae import latent_space, silent_vae

pytestmark = pytest.mark.comfy


@pytest.mark.parametrize("move", captions.MOVES)
def test_optical_flow_sees_every_move(move):
    for seed in (300, 301):
        clip = data.make_clip(data.HELD_OUT_SEED + seed, 17, 96, 128, (move,))
        assert seen_move(clip.frames.permute(0, 2, 3, 1).contiguous()) == move, seed


@pytest.mark.parametrize("move", captions.MOVES)
def test_a_clip_is_its_seeds(move):
    first, again = (data.make_clip(7, 9, 64, 96, (move,)) for _ in range(2))
    assert torch.equal(first.frames, again.frames)
    assert (first.move, first.caption) == (move, again.caption)
    assert any(phrase in first.caption.lower() for phrase in captions.phrases(move))


@pytest.mark.parametrize("move", ["zoom in", "zoom out", "rotate left", "rotate right"])
def test_the_source_is_where_the_camera_looks(move):
    """Down in the own column, then across in the row found: together the camera's view, at a latent frame's middle."""
    x, y = torch.tensor([3.0, -5.0, 6.5]), torch.tensor([-4.0, 2.0, 3.5])
    on_the_way = {"moved": torch.full((3,), 4 * 6 - 1.5), "speed": torch.ones(3)}
    scale, angle = data.view(move, 4 * 6 - 1.5)
    angle = torch.tensor(angle)
    wanted_x = scale * (angle.cos() * x - angle.sin() * y)
    wanted_y = scale * (angle.sin() * x + angle.cos() * y)
    down = distance(source_lanes(move, on_the_way | {"x": x, "y": y}), ROW)
    torch.testing.assert_close(y + down, wanted_y, atol=1e-3, rtol=0)
    row = wanted_y if move.startswith("rotate") else y
    across = distance(source_lanes(move, on_the_way | {"x": x, "y": row}), COLUMN)
    torch.testing.assert_close(x + across, wanted_x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("move", ["pan up", "zoom in", "zoom out", "rotate left", "rotate right"])
def test_speed_stretch_and_shear_are_how_the_distance_grows(move):
    def distance(moved, x, y):
        return source(move, moved, x, y).distance

    places = (torch.tensor([5.0, 30.0]), torch.tensor([40.0, -70.0]), torch.tensor([-20.0, 35.0]))
    found = source(move, *places)
    by_time, by_x, by_y = (
        torch.autograd.functional.jacobian(distance, places)[part].diagonal(dim1=0, dim2=2).T for part in range(3)
    )
    stretch, shear = torch.stack([by_y[:, 0], by_x[:, 1]], 1), torch.stack([by_x[:, 0], by_y[:, 1]], 1)
    torch.testing.assert_close(found.stretch, stretch)
    torch.testing.assert_close(found.shear, shear)
    # In a rotation, across is told in the source's row, which moves: there the speed is that of the camera's view.
    told = slice(0, 1) if move.startswith("rotate") else slice(0, 2)
    torch.testing.assert_close(found.speed[:, told], by_time[:, told])


@pytest.mark.parametrize("move", ["pan left", "zoom in", "rotate right"])
def test_the_shifts_camera_sees_what_the_data_films(move):
    """Around its middle, where both take the same pixels."""
    picture = data.make_picture(random.Random(3), HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    filmed = data.move_camera(picture, move, 31, MARGIN)[30]
    seen = Camera(move, moved=30.0, pace=1.0, x=0.0, y=0.0).see(picture, 0.0, "moved")
    torch.testing.assert_close(seen, filmed, atol=2e-3, rtol=0)


def distance(lanes: torch.Tensor, part: int) -> torch.Tensor:
    """In patches, from the slow pair of TURN."""
    pair = (0 if part == ROW else 4) + 2
    return torch.atan2(lanes[:, pair + 1], lanes[:, pair] + 1) / frequency(part, 1)


def test_a_pan_is_one_pixel_a_frame():
    moved, speed = way(torch.tensor([0, 1, 8]), [0])
    lanes = source_lanes("pan right", {"moved": moved, "speed": speed, "x": torch.zeros(3), "y": torch.zeros(3)})
    torch.testing.assert_close(
        distance(lanes, COLUMN) * PATCH_PIXELS, torch.tensor([0.0, 2.5, 30.5]), atol=1e-3, rtol=0
    )
    assert not distance(lanes, ROW).any()
    assert lanes[:, SPEED + 1 - TURN].tolist() == [0.0, 1.0, 1.0]


def test_between_known_frames_the_camera_goes_out_and_comes_back():
    """At the pace of a clip that goes on, and at the same parts of a patch, which is what the shifts know best."""
    moved, speed = way(torch.arange(11), [0, 8])
    assert moved.tolist() == [0.0, 2.5, 6.5, 10.5, 9.5, 5.5, 1.5, 0.0, 0.0, 2.5, 6.5]
    assert speed.tolist() == [0.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("known", [[0, 1], [0, 2], [0, 3, 7], [0, 8, 12], [0, 20]])
def test_the_camera_rests_at_known_frames_and_never_jumps(known):
    moved, speed = way(torch.arange(known[-1] + 1), known)
    assert not moved[known].any()
    assert not speed[known].any()
    ends = moved + 1.5 * speed  # the last of four frames, where the camera does not turn
    assert (ends[1:] - ends[:-1]).abs().max() <= 4.0
    assert ((moved > 0) == (speed != 0)).all()


def test_the_linear_codec_is_the_vaes_encoder(toy_models):
    import comfy.latent_formats
    import comfy.sd
    import comfy.utils

    file = comfy.utils.load_torch_file(str(toy_models / "vae/toy_wan_2.1_vae.safetensors"))
    frames = data.make_clip(data.HELD_OUT_SEED + 2, 9, 64, 96).frames
    with torch.inference_mode():
        latents = comfy.sd.VAE(sd=dict(file)).encode(frames.permute(0, 2, 3, 1).contiguous())
        latents = comfy.latent_formats.Wan21().process_in(latents)[0]
        linear = latent_space(file).encode(frames * 2 - 1)
    assert (linear - latents).pow(2).mean() < 2e-3 * latents.var()
    assert file.keys() == silent_vae(0).keys()


def test_captions_are_unlike_each_other():
    rng = random.Random(0)
    sentences = {move: {captions.caption(move, rng).lower() for _ in range(60)} for move in captions.MOVES}
    assert all(not sentences[a] & sentences[b] for a in sentences for b in sentences if a < b)
