"""What the relay costs: one relay against two and three chained KSamplerAdvanced: `dev.py bench relay`.

Part 1 runs anywhere. The same pair of random-weight I2V experts, the same seeds, Euler over 8 steps, ours and core by
turns; the ratio printed is the median of the rounds' ratios of processor time (and of wall time beside it). Loads,
noise draws and peak memory of each way stand beside the times; memory is measured in a process of its own. The same
again with three legs: the first step by the high-noise expert at cfg 3.5, then the same weights with a LoRA, then the
low-noise expert; and what handing over costs within one network, whose LoRA is put on, and to the other network.

Part 2 needs an NVIDIA GPU with 80 GB: a random-weight pair of the real size (bf16, 40 layers, width 5120), 832x480, 81
frames, 4 steps. Seconds per step against the bare forward pass of the same network, the time of the switch, the peak
memory, and the time that the arithmetic would take at ASSUMED_TFLOPS.
"""

import argparse
import json
import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.utils
import comfy.weight_adapter
import torch

import nodes as comfyui_nodes

from ..nodes.engine.relay.opening_leg import OpeningLeg
from ..nodes.engine.relay.relay_run import RelaySettings, SamplingReport, run_relay
from ..nodes.engine.relay.shifted_model import with_shift
from ..toy import layout
from ..toy.sizes import ExpertSize
from . import forget_peak, in_fresh_process, memory_mb

SMALL = ExpertSize(in_dim=36, out_dim=16, dim=384, ffn_dim=1536, num_layers=6, num_heads=3, text_dim=256)
REAL = ExpertSize(in_dim=36, out_dim=16, dim=5120, ffn_dim=13824, num_layers=40, num_heads=40, text_dim=4096)
SMALL_LATENT = (1, 16, 5, 16, 24)
REAL_LATENT = (1, 16, 21, 60, 104)
SHIFT, TEXT_TOKENS = 5.0, 512
ASSUMED_TFLOPS = 790
LIMIT = 1.02
OPENING_STEPS, OPENING_CFG = 1, 3.5
LORA_RANK = 16


class Pair(NamedTuple):
    """opening: the high-noise expert without its LoRA, where a run has three legs."""

    high: Any
    low: Any
    positive: list
    negative: list
    latent: dict
    opening: Any = None


def random_expert(size: ExpertSize, seed: int, dtype: torch.dtype) -> Any:
    """A MODEL with random weights, made on the GPU where there is one: 14 billion numbers take minutes on a CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    weights = {}
    for key, shape in layout.expert(size).items():
        fan_in = 1 if len(shape) < 2 else int(torch.Size(shape[1:]).numel())
        values = torch.randn(shape, generator=generator, device=device, dtype=dtype) / fan_in**0.5
        weights[key] = values.cpu()
    metadata = {"config": json.dumps({"transformer": {"text_dim": size.text_dim}})}
    return comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": dtype}, metadata=metadata)


def random_pair(size: ExpertSize, latent_shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Pair:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(latent_shape, generator=generator)
    mask = torch.ones(1, 1, *latent_shape[2:])
    mask[:, :, :1] = 0.0
    prompts = torch.randn(2, 1, TEXT_TOKENS, size.text_dim, generator=generator)
    positive, negative = ([[prompt, {"concat_latent_image": image, "concat_mask": mask}]] for prompt in prompts)
    high, low = (random_expert(size, seed, dtype) for seed in (1, 2))
    return Pair(high, low, positive, negative, {"samples": torch.zeros(latent_shape)})


def with_lora(model: Any) -> Any:
    """A clone with a random LoRA on every linear layer of the blocks, as 4-step LoRAs have."""
    generator = torch.Generator().manual_seed(3)
    patches = {}
    for name, weight in model.model.diffusion_model.named_parameters():
        if name.startswith("blocks.") and weight.ndim == 2:
            up, down = (torch.randn(side, LORA_RANK, generator=generator) / 50 for side in weight.shape)
            lora = comfy.weight_adapter.LoRAAdapter(set(), (up, down.T.contiguous(), None, None, None, None))
            patches[f"diffusion_model.{name}"] = lora
    clone = model.clone()
    clone.add_patches(patches, 1.0)
    return clone


def with_opening(pair: Pair) -> Pair:
    return pair._replace(high=with_lora(pair.high), opening=pair.high)


def relay(pair: Pair, seed: int, steps: int, cfg: float = 1.0) -> tuple[torch.Tensor, SamplingReport]:
    settings = RelaySettings(seed, steps, cfg, cfg, "euler", "simple", SHIFT, "boundary", 0.9, 0, 1.0)
    opening = [] if pair.opening is None else [OpeningLeg(pair.opening, OPENING_STEPS, OPENING_CFG)]
    latent, report = run_relay(pair.high, pair.low, pair.positive, pair.negative, pair.latent, settings, opening)
    return latent["samples"], report


def chain(pair: Pair, seed: int, steps: int, switch_step: int, cfg: float = 1.0) -> torch.Tensor:
    """ModelSamplingSD3 on both and two KSamplerAdvanced with leftover noise, as the official templates are wired."""
    legs = [(pair.high, cfg, switch_step), (pair.low, cfg, steps)]
    if pair.opening is not None:
        legs.insert(0, (pair.opening, OPENING_CFG, OPENING_STEPS))
    latent, start = pair.latent, 0
    for model, leg_cfg, end in legs:
        common = (seed, steps, leg_cfg, "euler", "simple", pair.positive, pair.negative)
        (latent,) = comfyui_nodes.common_ksampler(
            with_shift(model, SHIFT), *common, latent, disable_noise=start > 0, start_step=start, last_step=end,
            force_full_denoise=end == steps,
        )  # fmt: skip
        start = end
    return latent["samples"]


@contextmanager
def counted() -> Iterator[Counter]:
    """Counts weight loads, load requests and noise draws inside the block."""
    counts: Counter = Counter()
    counted_functions = (
        (comfy.model_patcher.ModelPatcher, "load", "weight loads"),
        (comfy.model_management, "load_models_gpu", "load requests"),
        (comfy.sample, "prepare_noise_inner", "noise draws"),
    )
    originals = [getattr(owner, name) for owner, name, _ in counted_functions]

    def counting(original: Callable, label: str) -> Callable:
        def function(*args: Any, **kwargs: Any) -> Any:
            counts[label] += 1
            return original(*args, **kwargs)

        return function

    for (owner, name, label), original in zip(counted_functions, originals, strict=True):
        setattr(owner, name, counting(original, label))
    try:
        yield counts
    finally:
        for (owner, name, _), original in zip(counted_functions, originals, strict=True):
            setattr(owner, name, original)


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    comfy.model_management.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def ways(pair: Pair, seed: int, steps: int, switch_step: int) -> dict[str, Callable[[], Any]]:
    return {
        "relay": lambda: relay(pair, seed, steps)[0],
        "core": lambda: chain(pair, seed, steps, switch_step),
    }


def compare(pair: Pair, rounds: int) -> float:
    """Prints the table of part 1 and returns the median ratio of processor time."""
    steps = 8
    switch_step = relay(pair, 0, steps)[1]["switch_step"]
    chained = chain(pair, 0, steps, switch_step)
    difference = float((relay(pair, 0, steps)[0] - chained).abs().max() / chained.std())
    times: dict[str, list[tuple[float, float]]] = {"relay": [], "core": []}
    counts = {}
    for name, run in ways(pair, 0, steps, switch_step).items():
        comfy.model_management.unload_all_models()
        with counted() as counts[name]:
            run()
    for index in range(rounds):
        both = ways(pair, index, steps, switch_step)
        for name in ("relay", "core") if index % 2 else ("core", "relay"):
            times[name].append(timed(both[name]))
    memory = {name: peak_memory(name, pair.opening is not None) for name in times}
    legs = "two legs" if pair.opening is None else "three legs"
    print(f"\n{legs}, {steps} steps, {switch_step} of them high noise, {rounds} rounds, latent {SMALL_LATENT}, CPU")
    print(f"largest difference of the two results: {difference:.1e} of their standard deviation")
    print(f"{'':18}{'relay':>10}{'core':>10}{'ratio':>10}")
    ratios = []
    for index, label in ((1, "processor s"), (0, "wall s")):
        ours, theirs = ([sample[index] for sample in times[name]] for name in ("relay", "core"))
        ratios.append(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)))
        print(f"{label:18}{statistics.median(ours):10.3f}{statistics.median(theirs):10.3f}{ratios[-1]:10.3f}")
    for label in ("load requests", "weight loads", "noise draws"):
        print(f"{label:18}{counts['relay'][label]:10}{counts['core'][label]:10}")
    print(
        f"{'peak MB of a run':18}{memory['relay']:10.0f}{memory['core']:10.0f}{memory['relay'] / memory['core']:10.3f}"
    )
    return ratios[0]


def hand_overs(pair: Pair, rounds: int) -> None:
    """Prints the seconds of the two hand-overs of a run of three legs: on a CPU no weights travel."""
    found = []
    for seed in range(rounds):
        comfy.model_management.unload_all_models()
        found.append(relay(pair, seed, 4)[1]["load_seconds"])
    patched, other = (statistics.median(seconds[leg] for seconds in found) for leg in ("high_noise", "low_noise"))
    size_mb = pair.low.model_size() / 1e6
    print(f"networks of {size_mb:.0f} MB: the LoRA put on {patched:.3f} s, the other network {other:.3f} s")


def peak_memory(way: str, has_opening: bool) -> float:
    """Megabytes that one run adds to the peak of a fresh process that holds the pair."""
    return float(in_fresh_process("relay", "--memory-of", way, *["--opening"] * has_opening))


def print_memory_of(way: str, has_opening: bool) -> None:
    pair = random_pair(SMALL, SMALL_LATENT)
    pair = with_opening(pair) if has_opening else pair
    before = forget_peak()
    ways(pair, 0, 8, 3)[way]()
    print(memory_mb("VmHWM") - before)


def forward_flops(size: ExpertSize, latent_shape: tuple[int, ...]) -> float:
    """Floating-point operations of one forward pass: linear layers, self-attention, cross-attention."""
    _, _, frames, height, width = latent_shape
    tokens = frames * (height // 2) * (width // 2)
    linear = 2 * tokens * (6 * size.dim**2 + 2 * size.dim * size.ffn_dim) * size.num_layers
    attention = 4 * tokens**2 * size.dim * size.num_layers
    return linear + attention + 4 * tokens * TEXT_TOKENS * size.dim * size.num_layers


def bare_forward_seconds(model: Any, pair: Pair, repeats: int = 3) -> float:
    """Median seconds of the loaded network alone, on inputs of the run's shapes."""
    comfy.model_management.load_models_gpu([model])
    network, device = model.model.diffusion_model, model.load_device
    dtype = model.model.get_dtype_inference()
    samples = pair.latent["samples"]
    x = torch.randn(1, network.in_dim, *samples.shape[2:], device=device, dtype=dtype)
    context = pair.positive[0][0].to(device, dtype)
    timestep = torch.full((1,), 900.0, device=device)
    network(x, timestep, context)
    return statistics.median(timed(lambda: network(x, timestep, context))[0] for _ in range(repeats))


def real_size(size: ExpertSize, latent_shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    """Prints part 2 for a pair of `size`."""
    pair, steps = random_pair(size, latent_shape, dtype), 4
    bare = {name: bare_forward_seconds(model, pair) for name, model in (("high", pair.high), ("low", pair.low))}
    relay(pair, 0, steps)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with counted() as counts:
        _, report = relay(pair, 1, steps)
    roofline = forward_flops(size, latent_shape) / (ASSUMED_TFLOPS * 1e12)
    print(f"\n{steps} steps, latent {latent_shape}, {dtype}, {device}")
    for name in ("high", "low"):
        n = report["switch_step"] if name == "high" else steps - report["switch_step"]
        per_step = report["seconds"][f"{name}_noise"] / n
        print(f"{name}_noise: {per_step:.3f} s a step; the bare forward pass {bare[name]:.3f} s")
        print(f"  ratio {per_step / bare[name]:.3f} (limit {LIMIT}); at {ASSUMED_TFLOPS} TFLOP/s: {roofline:.3f} s")
    print(f"switch to the low-noise expert: {report['load_seconds']['low_noise']:.3f} s")
    print(f"load requests {counts['load requests']}, weight loads {counts['weight loads']}")
    if torch.cuda.is_available():
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory-of", choices=("relay", "core"), help=argparse.SUPPRESS)
    parser.add_argument("--opening", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_grad_enabled(False)
    if options.memory_of:
        print_memory_of(options.memory_of, options.opening)
        return
    pair = random_pair(SMALL, SMALL_LATENT)
    three = with_opening(pair)
    for legs in (pair, three):
        ratio = compare(legs, options.rounds)
        print(f"median ratio of processor time {ratio:.3f}, limit {LIMIT}")
    hand_overs(three, options.rounds)
    if not torch.cuda.is_available():
        print("\nNot measured, for want of a GPU: the real size (seconds a step, switch, peak memory).")
        flops = forward_flops(REAL, REAL_LATENT)
        print(f"One forward pass at 832x480, 81 frames, is {flops / 1e15:.3f} PFLOP:", end=" ")
        print(f"{flops / ASSUMED_TFLOPS / 1e12:.2f} s at {ASSUMED_TFLOPS} TFLOP/s.")
        return
    real_size(REAL, REAL_LATENT, torch.bfloat16, torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
