"""Ends, keyframes and loops through the pack's relay: the toy shows them at their frames, and a loop plays on."""

import math
import statistics
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from wan_relay.nodes.engine.frames.clip_images import ClipImages, Keyframe
from wan_relay.nodes.engine.frames.image_conditioning import condition_on_images
from wan_relay.nodes.engine.frames.known_frames import Clip
from wan_relay.nodes.engine.frames.wan_vae import WAN_2_1
from wan_relay.nodes.rules.frames.timeline import plan_frames
from wan_relay.toy.training.quality import Example, Family, generate, motion, psnr

pytestmark = pytest.mark.comfy
HEIGHT, WIDTH = 96, 128
MET_DB = 21.5  # measured: more than 22.5; a clip through the VAE has 28.6, another picture less than 14


@pytest.fixture(scope="module")
def family(toy_models):
    return Family(toy_models)


def made(family: Family, example: Example, images: dict[str, torch.Tensor], **inputs: Any) -> torch.Tensor:
    """Frames of the example's prompt and length, in four steps."""
    num_frames = example.frames.shape[1]
    given, _ = ClipImages.checked(images, **inputs)
    known = given.placed(plan_frames(given.given, num_frames))
    clip = Clip(WIDTH, HEIGHT, num_frames, 1, "crop")
    told = condition_on_images(example.positive, example.negative, family.vae, WAN_2_1, known, clip)
    asked = replace(example, positive=told[0], negative=told[1])
    return family.decode(generate(family.pair("_4step"), asked, steps=4))[0]


def picture(family: Family, move: str, seed: int) -> torch.Tensor:
    return family.example(move, (seed,), 5, HEIGHT, WIDTH).frames[0, :1]


@pytest.mark.parametrize("move", ["pan right", "pan up", "zoom in", "rotate left"])
def test_a_loops_seam_looks_like_any_other_step(family, move):
    """33 frames, the last of which is the first again and is not shown."""
    example = family.example(move, (301,), 33, HEIGHT, WIDTH)
    start = example.frames[0, :1]
    frames = made(family, example, {"start_image": start}, loop=True)
    assert psnr(frames[-1], start[0]) > MET_DB
    assert psnr(frames[0], start[0]) > 26.0
    twice = [*frames[:-1], *frames[:-1]]
    speeds = [camera_speed(a, b) for a, b in pairwise(twice)][: len(twice) // 2]
    assert speeds[31] < 0.75 * max(speeds)
    if move == "pan right":  # of the others the flow's own noise, or the softer end, is as large as most steps
        assert speeds[31] < statistics.median(speeds) / 1.5, "at the seam the camera rests"
    assert camera_speed(frames[0], frames[16]) > 3 * speeds[31], "in between it has gone somewhere"
    changes = [(b - a).abs().mean().item() for a, b in pairwise(twice)][: len(twice) // 2]
    assert changes[31] < 1.75 * max(changes[:31]), "nor is it told by how much the picture changes"
    assert (frames[31] - frames[0]).mean(dim=(0, 1)).abs().max() < 4 / 255, "nor by its colour"


@pytest.mark.parametrize("move", ["pan right", "pan up"])
def test_a_loops_camera_goes_out_and_back_a_pixel_a_frame(family, move):
    """Out for 12 frames of 33, back for 12, then at rest: where it is at four of them, by flow from the first frame."""
    example = family.example(move, (302,), 33, HEIGHT, WIDTH)
    frames = made(family, example, {"start_image": example.frames[0, :1]}, loop=True)
    for frame, wanted in ((4, 4.0), (8, 8.0), (20, 4.0), (24, 0.0)):
        seen = motion(torch.stack([frames[0], frames[frame]]), stride=1)
        along, aside = (-seen.x, seen.y) if move == "pan right" else (seen.y, seen.x)
        assert along == pytest.approx(wanted, abs=2.0), frame
        assert abs(aside) < 1.0, frame


def test_without_loop_the_clip_does_not_come_back(family):
    example = family.example("pan right", (301,), 33, HEIGHT, WIDTH)
    start = example.frames[0, :1]
    assert psnr(made(family, example, {"start_image": start})[-1], start[0]) < 16.0


def camera_speed(a: torch.Tensor, b: torch.Tensor) -> float:
    """By how many pixels the camera's flow from frame `a` to `b` moves the picture, whatever the move."""
    seen = motion(torch.stack([a, b]), stride=1)
    return math.hypot(seen.x, seen.y) + (abs(seen.growth) + abs(seen.turn)) * seen.radius


@pytest.mark.parametrize("move", ["pan right", "zoom in", "rotate left", "still"])
def test_keyframes_and_an_end_are_met(family, move):
    example = family.example(move, (301,), 33, HEIGHT, WIDTH)
    start, one, two, three = (picture(family, move, seed) for seed in (301, 305, 306, 307))
    frames = made(
        family,
        example,
        {"start_image": start, "end_image": three},
        keyframes=(Keyframe(one, 12), Keyframe(two, 20)),
    )
    for index, wanted in ((0, start), (12, one), (20, two), (32, three)):
        assert psnr(frames[index], wanted[0]) > MET_DB, index
        others = [other for other in (start, one, two, three) if other is not wanted]
        assert max(psnr(frames[index], other[0]) for other in others) < MET_DB - 6, index


def test_an_end_alone_is_met(family):
    example, end = family.example("pan right", (301,), 17, HEIGHT, WIDTH), picture(family, "pan right", 305)
    assert psnr(made(family, example, {"end_image": end})[-1], end[0]) > MET_DB - 1.5
