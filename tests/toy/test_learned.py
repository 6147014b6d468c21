"""What the toy family has learned, asked through the pack's own relay: a wrong relay must be worse on held-out clips.

Margins are about half of what was measured (toy/training/README.md), and hold for every noise seed here.
"""

from dataclasses import replace

import pytest
import torch
from wan_relay.nodes.engine.relay.attention_guidance import apply_nag
from wan_relay.toy.captions import CAMERA_MOVES
from wan_relay.toy.training.quality import Family, Pair, denoising_loss, generate, motion, psnr, seen_move

pytestmark = pytest.mark.comfy
SEEDS = (0, 1, 2)
NUM_FRAMES, HEIGHT, WIDTH = 9, 96, 128
MOVES = (("pan right", (3, 5)), ("zoom in", (1, 4)), ("rotate left", (3, 5)))


@pytest.fixture(scope="module")
def family(toy_models):
    return Family(toy_models)


@pytest.fixture(scope="module")
def pair(family):
    return family.pair()


@pytest.fixture(scope="module")
def merged(family):
    return family.pair("_4step")


@pytest.fixture(scope="module")
def examples(family):
    return [family.example(move, seeds, NUM_FRAMES, HEIGHT, WIDTH) for move, seeds in MOVES]


@pytest.fixture(scope="module")
def right_losses(pair, examples):
    return [[denoising_loss(pair, example, seed) for seed in SEEDS] for example in examples]


WRONG = {
    "experts swapped": (lambda pair: Pair(pair.low, pair.high), 1.2),
    "high-noise expert alone": (lambda pair: Pair(pair.high, pair.high), 1.15),
    "boundary 0.5": (lambda pair: replace(pair, boundary=0.5), 1.06),
    "low-noise expert alone": (lambda pair: Pair(pair.low, pair.low), 1.015),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_relay_denoises_worse(pair, examples, right_losses, wrong):
    change, margin = WRONG[wrong]
    for example, losses in zip(examples, right_losses, strict=True):
        for seed, right in zip(SEEDS, losses, strict=True):
            assert denoising_loss(change(pair), example, seed) > margin * right, (example.move, seed)


def test_the_right_relay_knows_the_clip(right_losses):
    assert all(loss < 0.3 for losses in right_losses for loss in losses), "a clip of variance 1 that nobody knows: 1"


def test_a_wrong_or_missing_mask_denoises_worse(pair, examples, right_losses):
    for example, losses in zip(examples, right_losses, strict=True):
        for wrong in (example.with_mask_inverted(), example.without_mask()):
            assert denoising_loss(pair, wrong, SEEDS[0]) > 2.0 * losses[0]


def test_the_words_matter(pair, examples, right_losses):
    """The same clip under another move's words is predicted worse, and so it is without words."""
    first, second, _ = examples
    for positive in (second.positive, second.negative):
        words = [[positive[0][0], first.positive[0][1]]]
        assert denoising_loss(pair, replace(first, positive=words), SEEDS[0]) > 1.2 * right_losses[0][0]


def test_a_negative_prompt_changes_a_run_at_cfg_1(family, merged, examples):
    """NAG away from "pan left" while zooming in, in pixels; away from the prompt itself, it changes nothing."""
    zoom = examples[1]
    one = replace(
        zoom,
        latents=zoom.latents[:1],
        positive=[
            [words, told | {"concat_latent_image": told["concat_latent_image"][:1]}] for words, told in zoom.positive
        ],
    )
    pan_left = family.clip.encode_from_tokens_scheduled(family.clip.tokenize("pan left"))

    def frames(negative):
        experts = [apply_nag(model, negative, 11.0, 0.25, 2.37, 0.0, "")[0] for model in (merged.high, merged.low)]
        return family.decode(generate(Pair(*experts), one, 4))

    without = family.decode(generate(merged, one, 4))
    assert 255 * (frames(pan_left) - without).abs().mean() > 2
    assert 255 * (frames(one.positive) - without).abs().mean() < 0.1


def test_the_lora_pair_helps_at_its_own_four_steps(family, pair, examples):
    steps = (1.0, 0.9375, 0.8333, 0.625)
    applied, merged = family.with_lora(pair), family.pair("_4step")
    for example in examples:
        for seed in SEEDS:
            bare, with_lora, baked = (denoising_loss(p, example, seed, steps) for p in (pair, applied, merged))
            assert with_lora < 0.95 * bare, (example.move, seed)
            assert baked == pytest.approx(with_lora, rel=0.01)


@pytest.mark.parametrize("move", [move for move in CAMERA_MOVES if move != "still"])
def test_the_picture_moves_as_asked(family, merged, move):
    """Four steps through the relay, on a picture with something to see."""
    example = family.example(move, (301,), 17, HEIGHT, WIDTH)
    frames = family.decode(generate(merged, example, steps=4))[0]
    assert seen_move(example.frames[0]) == move, "the true clip shows it"
    assert seen_move(frames) == move
    made, true = motion(frames), motion(example.frames[0])
    assert (made.x, made.y) == (pytest.approx(true.x, abs=0.3), pytest.approx(true.y, abs=0.3))
    assert psnr(frames[0], example.frames[0, 0]) > 26.0


def test_the_vae_reconstructs(family, examples):
    for example in examples:
        assert psnr(family.decode(example.latents), example.frames) > 26.0
        normal = family_latents(family, example)
        assert abs(normal.mean()) < 0.5
        assert 0.5 < normal.std() < 1.6


def family_latents(family: Family, example) -> torch.Tensor:
    """Latents after ComfyUI's fixed Wan2.1 mean and scale."""
    return family.pair().high.model.process_latent_in(example.latents)
