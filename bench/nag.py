"""What Apply NAG costs and does: `dev.py bench nag`.

1. Arithmetic: NAG's share of a forward pass of the real network at 832x480, 81 frames.
2. Processor time of runs over a random-weight pair at a size where attention is as large a part of the arithmetic as it
   is there: without NAG, with it, and with ComfyUI's NAGuidance, by turns.
3. Effect on the toy family at cfg 1: what optical flow sees (pixels a frame to the right, growth in percent) and
   how far the pictures are from those without NAG, for prompts and negative prompts.
"""

import argparse
import logging
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.utils
import torch
from comfy_extras.nodes_nag import NAGuidance

from ..nodes.engine.relay.attention_guidance import apply_nag
from ..toy.family import ensure_family
from ..toy.sizes import ExpertSize
from ..toy.training import quality
from .relay import REAL, REAL_LATENT, TEXT_TOKENS, Pair, forward_flops, random_pair, relay, timed

WIDE = ExpertSize(in_dim=36, out_dim=16, dim=384, ffn_dim=1536, num_layers=2, num_heads=3, text_dim=256)
WIDE_LATENT = (1, 16, 9, 40, 60)
SCALE, ALPHA, TAU = 11.0, 0.25, 2.37
LIMIT = 1.10
PROMPTS = ("The camera pans left.", "pan right", "zoom in")
NEGATIVES = ("The camera pans left.", "pan right")


def nag_flops(size: ExpertSize, latent_shape: tuple[int, ...]) -> float:
    """What NAG adds to one forward pass: the text embedding, and in each block keys, values and one cross-attention."""
    _, _, frames, height, width = latent_shape
    tokens = frames * (height // 2) * (width // 2)
    embedding = 2 * TEXT_TOKENS * (size.text_dim * size.dim + size.dim**2)
    block = 4 * TEXT_TOKENS * size.dim**2 + 4 * tokens * TEXT_TOKENS * size.dim
    return embedding + block * size.num_layers


def with_nag(model: Any, negative: list) -> Any:
    return apply_nag(model, negative, SCALE, ALPHA, TAU, 0.0, "the model")[0]


def print_arithmetic() -> None:
    whole, added = forward_flops(REAL, REAL_LATENT), nag_flops(REAL, REAL_LATENT)
    print(f"832x480, 81 frames: a forward pass {whole / 1e15:.3f} PFLOP, NAG {added / 1e12:.1f} TFLOP more:", end=" ")
    print(f"{1 + added / whole:.4f} of a run without it (limit {LIMIT}); ComfyUI's NAGuidance: 2.0")


def print_cost(rounds: int) -> float:
    """Prints the table of processor seconds, and returns the median ratio of NAG's."""
    pair = random_pair(WIDE, WIDE_LATENT)
    ours = [with_nag(model, pair.negative) for model in (pair.high, pair.low)]
    core = [NAGuidance.execute(model, SCALE, ALPHA, TAU).result[0] for model in (pair.high, pair.low)]
    ways: dict[str, Pair] = {
        "without": pair,
        "Apply NAG": pair._replace(high=ours[0], low=ours[1]),
        "NAGuidance": pair._replace(high=core[0], low=core[1]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds + 1):  # the first round is a warm-up
        for name in list(ways) if index % 2 else reversed(ways):
            seconds[name].append(timed(lambda name=name: relay(ways[name], 0, 2))[1])  # type: ignore[misc]
    whole, added = forward_flops(WIDE, WIDE_LATENT), nag_flops(WIDE, WIDE_LATENT)
    print(
        f"\nlatent {WIDE_LATENT}, width {WIDE.dim}, 2 steps, {rounds} rounds, CPU; NAG by FLOPs {1 + added / whole:.3f}"
    )
    ratios = {}
    for name, times in seconds.items():
        ratios[name] = statistics.median(a / b for a, b in zip(times[1:], seconds["without"][1:], strict=True))
        print(f"{name:12}{statistics.median(times[1:]):9.2f} s of processor time{ratios[name]:8.3f}")
    return ratios["Apply NAG"]


@torch.inference_mode()
def print_effect(family: quality.Family, num_frames: int, height: int, width: int) -> None:
    pair = family.pair("_4step")
    example = family.example("pan left", [3], num_frames, height, width)
    words = {text: family.clip.encode_from_tokens_scheduled(family.clip.tokenize(text)) for text in PROMPTS}
    print(f"\ntoy family, cfg 1, 4 steps, {num_frames} frames of {width}x{height}")
    print("| prompt | negative | to the right | growth % | mean pixel difference of 255 |\n|---|---|---|---|---|")
    for prompt in PROMPTS:
        asked = replace(example, positive=[[words[prompt][0][0], example.positive[0][1]]])
        without = None
        for negative in (None, *NEGATIVES):
            models = pair
            if negative is not None:
                models = quality.Pair(*(with_nag(model, words[negative]) for model in (pair.high, pair.low)))
            frames = family.decode(quality.generate(models, asked, 4))[0]
            without = frames if without is None else without
            seen, change = quality.motion(frames), 255 * float((frames - without).abs().mean())
            print(
                f"| {prompt} | {negative or '-'} | {seen.x:.2f} | {100 * seen.growth:.2f} | {change:.1f} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_grad_enabled(False)
    print_arithmetic()
    ratio = print_cost(options.rounds)
    print(f"median ratio of processor time {ratio:.3f}, limit {LIMIT}")
    with tempfile.TemporaryDirectory() as folder:
        ensure_family(Path(folder))
        print_effect(quality.Family(Path(folder)), 9, 96, 128)


if __name__ == "__main__":
    main()
