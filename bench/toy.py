"""What the toy family has learned, on held-out pictures: `python3 dev.py run bench.toy [--clips N] [--frames N] ...`.

Three tables, all through ComfyUI's loaders and what the pack's own nodes call:

1. Denoising: squared velocity error of the relay at boundary 0.9, and how many times larger that of a wrong relay is.
2. Steps: four with and without the LoRA pair, eight and forty without, forty with guidance; the latents' signal to
   error ratio.
3. Motion: clips made in four steps with the merged pair; the move that optical flow sees, first frame and whole clip
   against the true ones. The same for wrong relays. "flow error" is in pixels a frame; a pan is 1.

Figures are those of a move's clips taken together. `--moves N` counts only what flow recognises, over N clips of each
camera move. toy/training/README.md has the tables of `--clips 2` and the counts of `--moves 12`; `--clips 14
--frames 33 --width 240 --height 160` takes an hour.
"""

import argparse
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from ..toy import captions
from ..toy.family import ensure_family
from ..toy.training import quality
from ..toy.training.quality import Example, Family, Pair

GUIDANCE = (1.5, 3.5)
KINDS = {"pan": "pans", "zoom": "zooms", "rotate": "rotations", "still": "still", "ball": "balls"}


def wrong_relays(pair: Pair) -> dict[str, Pair]:
    return {
        "experts swapped": Pair(pair.low, pair.high),
        "high-noise expert alone": Pair(pair.high, pair.high),
        "low-noise expert alone": Pair(pair.low, pair.low),
        "boundary 0.5": replace(pair, boundary=0.5),
    }


def print_denoising(pair: Pair, examples: list[Example]) -> None:
    moves = [example.move for example in examples]
    print("\n1. Denoising\n\n| relay | " + " | ".join(moves) + " |\n|---|" + "---|" * len(moves))
    right = [quality.denoising_loss(pair, example) for example in examples]
    print("| at boundary 0.9: loss | " + " | ".join(f"{loss:.3f}" for loss in right) + " |")
    rows = {name: [quality.denoising_loss(p, e) for e in examples] for name, p in wrong_relays(pair).items()}
    rows["start image mask inverted"] = [quality.denoising_loss(pair, e.with_mask_inverted()) for e in examples]
    for name, losses in rows.items():
        print(
            f"| {name} | " + " | ".join(f"x{a / b:.2f}" for a, b in zip(losses, right, strict=True)) + " |", flush=True
        )


def print_motion(family: Family, pair: Pair, examples: list[Example]) -> None:
    """The same clips for every relay, made in four steps."""
    print("\n3. Motion\n\n| relay | recognised | flow error | first frame dB | whole clip dB |\n|---|---|---|---|---|")
    relays = {"at boundary 0.9": pair, **wrong_relays(pair), "start image mask inverted": pair}
    for name, relay in relays.items():
        visible, errors, first, whole = [], [], [], []
        for example in examples:
            asked = example.with_mask_inverted() if name.startswith("start image") else example
            made = family.decode(quality.generate(relay, asked, steps=4))
            for clip, true in zip(made, example.frames, strict=True):
                flow, true_flow = quality.motion(clip), quality.motion(true)
                errors.append(math.hypot(flow.x - true_flow.x, flow.y - true_flow.y))
                first.append(quality.psnr(clip[0], true[0]))
                whole.append(quality.psnr(clip, true))
                # a picture without texture shows no motion: such clips are left out of what is recognised
                if quality.seen_move(true) == example.move:
                    visible.append((example.move, quality.seen_move(clip)))
        figures = " | ".join(f"{statistics.mean(values):.2f}" for values in (errors, first, whole))
        print(f"| {name} | {recognised(visible)} | {figures} |", flush=True)


def recognised(visible: list[tuple[str, str]]) -> str:
    """How many of (asked, seen) agree, for each kind of move."""
    parts = []
    for kind, name in KINDS.items():
        chosen = [asked == made for asked, made in visible if asked.startswith(kind)]
        if chosen:
            parts.append(f"{name} {sum(chosen)} of {len(chosen)}")
    return ", ".join(parts)


def print_steps(family: Family, pair: Pair, examples: list[Example]) -> None:
    runs = {
        "4 steps, LoRA pair": (family.with_lora(pair), 4, 1.0),
        "4 steps, no LoRA": (pair, 4, 1.0),
        "8 steps, no LoRA": (pair, 8, 1.0),
        "40 steps, no LoRA": (pair, 40, 1.0),
    }
    runs |= {f"40 steps, guidance {guidance}": (pair, 40, guidance) for guidance in GUIDANCE}
    print("\n2. Steps\n\n| run | " + " | ".join(e.move for e in examples) + " |\n|---|" + "---|" * len(examples))
    for name, (relay, steps, cfg) in runs.items():
        decibels = []
        for example in examples:
            made = quality.generate(relay, example, steps, cfg)
            made, true = (relay.high.model.process_latent_in(latents) for latents in (made, example.latents))
            decibels.append(10 * torch.log10(true.var() / (made - true).pow(2).mean()).item())
        print(f"| {name} | " + " | ".join(f"{value:.1f} dB" for value in decibels) + " |", flush=True)


def print_moves(family: Family, clips: int, size: tuple[int, int, int]) -> None:
    """The camera's direction alone, over `clips` held-out clips a move: what takes many clips to know."""
    pair, visible, first = family.pair("_4step"), [], []
    for index, move in enumerate(captions.CAMERA_MOVES):
        for start in range(0, clips, 5):
            seeds = [1000 * index + 500 + clip for clip in range(start, min(start + 5, clips))]
            example = family.example(move, seeds, *size)
            made = family.decode(quality.generate(pair, example, steps=4))
            for clip, true in zip(made, example.frames, strict=True):
                first.append(quality.psnr(clip[0], true[0]))
                if quality.seen_move(true) == move:
                    visible.append((move, quality.seen_move(clip)))
        print(f"{move}: {recognised(visible)} so far", flush=True)
    print(f"{sum(asked == made for asked, made in visible)} of {len(visible)}; missed, with what was seen instead:")
    print(", ".join(f"{asked} ({made})" for asked, made in visible if asked != made))
    print(f"first frame: {statistics.mean(first):.1f} dB over {len(first)} clips, the worst {min(first):.1f} dB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=3, help="held-out clips a move")
    parser.add_argument("--moves", type=int, metavar="N", help="only the direction of N held-out clips a camera move")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--height", type=int, default=96)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ensure_family(Path(folder))
        family = Family(Path(folder))
        size = (arguments.frames, arguments.height, arguments.width)
        if arguments.moves:
            print_moves(family, arguments.moves, size)
            return
        examples = [
            family.example(move, [100 * index + clip for clip in range(arguments.clips)], *size)
            for index, move in enumerate(captions.MOVES)
        ]
        print(f"{arguments.clips} clips a move, {size[0]} frames of {size[2]}x{size[1]}, held-out pictures")
        vae = [quality.psnr(family.decode(e.latents[:1])[0], e.frames[0]) for e in examples]
        print(f"VAE: {statistics.mean(vae):.1f} dB over {len(vae)} clips, the worst {min(vae):.1f} dB", flush=True)
        pair = family.pair()
        print_denoising(pair, examples)
        print_steps(family, pair, examples)
        print_motion(family, family.pair("_4step"), [e for e in examples if e.move in captions.CAMERA_MOVES])


if __name__ == "__main__":
    main()
