"""What the toy family makes of an end and a keyframe, through the pack's relay: they pull at their frames, no more.

The toy has not learned to reach them (toy/README.md), so no test here says that a loop closes or a keyframe is met. On
this clip: 1.2 and 1.5 dB nearer to the picture at its frame, where a real end image would be reached.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from wan_relay.nodes.engine.frames.clip_images import ClipImages, Keyframe
from wan_relay.nodes.engine.frames.image_conditioning import condition_on_images
from wan_relay.nodes.engine.frames.known_frames import Clip
from wan_relay.nodes.engine.frames.wan_vae import WAN_2_1
from wan_relay.nodes.rules.frames.timeline import plan_frames
from wan_relay.toy.training.quality import Family, generate, psnr

pytestmark = pytest.mark.comfy
NUM_FRAMES, HEIGHT, WIDTH, MIDDLE = 17, 96, 128, 8
GAIN_DB = 0.6


def test_an_end_and_a_keyframe_pull_at_their_frames(toy_models):
    family = Family(toy_models)
    pair = family.pair("_4step")
    example = family.example("pan right", (301,), NUM_FRAMES, HEIGHT, WIDTH)
    start = example.frames[0, :1]
    other = family.example("pan right", (305,), NUM_FRAMES, HEIGHT, WIDTH).frames[0, :1]

    def made(**inputs: Any) -> torch.Tensor:
        given, _ = ClipImages.checked({"start_image": start}, **inputs)
        known = given.placed(plan_frames(given.given, NUM_FRAMES))
        clip = Clip(WIDTH, HEIGHT, NUM_FRAMES, 1, "crop")
        told = condition_on_images(example.positive, example.negative, family.vae, WAN_2_1, known, clip)
        return family.decode(generate(pair, replace(example, positive=told[0], negative=told[1]), steps=4))[0]

    plain, loop, keyed = made(), made(loop=True), made(keyframes=(Keyframe(other, MIDDLE),))
    assert psnr(loop[-1], start[0]) > psnr(plain[-1], start[0]) + GAIN_DB
    assert psnr(keyed[MIDDLE], other[0]) > psnr(plain[MIDDLE], other[0]) + GAIN_DB
    for frames in (loop, keyed):
        assert psnr(frames[0], start[0]) > 26.0
