"""What only a GPU can tell, within eight minutes: `WAN_RELAY_GPU=1 python3 dev.py bench gpu`.

A random-weight pair of the real size (40 layers, width 5120), 4 steps at cfg 1, 832x480 and 1280x720, 81 frames, in
bf16 and in fp8: seconds a step of each expert beside the bare forward pass of the same network and the roofline (its
arithmetic at ASSUMED_TFLOPS), the hand-over, the peak of GPU memory. Then LoRAs put on and taken off again, NAG where
the pack has it, the VAE's decoding, saving from a GPU tensor; and what others have published.

For a card with 80 GB and 100 GB of main memory; a smaller card streams weights, which the figures then show. Without a
GPU, and for the tests, the same runs at toy size on the CPU: its figures say that the script works, and nothing else.
"""

import argparse
import gc
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management
import comfy.sd
import comfy.utils
import torch

from ..nodes.engine.files.lora_patches import LoraFile, apply_lora
from ..nodes.node_list import NODES
from ..toy import layout
from ..toy.sizes import ExpertSize, VaeSize
from .published import print_published
from .relay import ASSUMED_TFLOPS, REAL, TEXT_TOKENS, Pair, bare_forward_seconds, forward_flops, relay, timed
from .save_video import save_ours

STEPS = 4
LIMIT_S = 8 * 60
NAG = "WanRelay_ApplyNag"


class Plan(NamedTuple):
    """How large everything is; `clips` are (name, width, height, frames)."""

    expert: ExpertSize
    vae: VaeSize
    clips: tuple[tuple[str, int, int, int], ...]
    lora_rank: int


REAL_PLAN = Plan(REAL, VaeSize(dim=96), (("832x480x81", 832, 480, 81), ("1280x720x81", 1280, 720, 81)), 64)
TOY_PLAN = Plan(
    ExpertSize(in_dim=36, out_dim=16, dim=128, ffn_dim=64, num_layers=1, num_heads=1, text_dim=32),
    VaeSize(dim=4),
    (("32x32x5", 32, 32, 5), ("48x32x5", 48, 32, 5)),
    4,
)


class Row(NamedTuple):
    """One figure; `floor_s` is the arithmetic at ASSUMED_TFLOPS, `beside_s` the bare forward pass."""

    what: str
    seconds: float
    beside_s: float | None = None
    floor_s: float | None = None
    note: str = ""


def weight_types() -> dict[str, dict[str, Any]]:
    """Name -> ComfyUI's model options, as Load Experts sets them; fp8 arithmetic only where the GPU has it."""
    fp8 = {"dtype": torch.float8_e4m3fn}
    types: dict[str, dict[str, Any]] = {"bf16": {"dtype": torch.bfloat16}, "fp8_e4m3fn": fp8}
    if comfy.model_management.supports_fp8_compute(comfy.model_management.get_torch_device()):
        types["fp8_e4m3fn_fast"] = fp8 | {"fp8_optimizations": True}
    return types


def random_tensors(shapes: layout.Shapes, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Made on the GPU where there is one: 14 billion numbers take minutes on a CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    weights = {}
    for key, shape in shapes.items():
        fan_in = 1 if len(shape) < 2 else torch.Size(shape[1:]).numel()
        weights[key] = (torch.randn(shape, generator=generator, device=device, dtype=dtype) / fan_in**0.5).cpu()
    return weights


def random_pair(plan: Plan, options: dict[str, Any]) -> tuple[Any, Any]:
    metadata = {"config": json.dumps({"transformer": {"text_dim": plan.expert.text_dim}})}
    return tuple(
        comfy.sd.load_diffusion_model_state_dict(
            random_tensors(layout.expert(plan.expert), seed, torch.bfloat16),
            model_options=dict(options),
            metadata=metadata,
        )
        for seed in (1, 2)
    )


def inputs_of(plan: Plan, models: tuple[Any, Any], clip: tuple[str, int, int, int]) -> Pair:
    """The pair with random prompts, a start image that is known in the first frame, and an empty latent."""
    _, width, height, frames = clip
    shape = (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(1, 1, *shape[2:])
    mask[:, :, :1] = 0.0
    known = {"concat_latent_image": torch.randn(shape, generator=generator), "concat_mask": mask}
    prompts = torch.randn(2, 1, TEXT_TOKENS, plan.expert.text_dim, generator=generator)
    positive, negative = ([[prompt, dict(known)]] for prompt in prompts)
    return Pair(*models, positive, negative, {"samples": torch.zeros(shape)})


def steps_rows(plan: Plan, name: str, models: tuple[Any, Any], clip: tuple[str, int, int, int]) -> Iterator[Row]:
    pair = inputs_of(plan, models, clip)
    floor_s = forward_flops(plan.expert, pair.latent["samples"].shape) / (ASSUMED_TFLOPS * 1e12)
    bare = {slot: bare_forward_seconds(model, pair, 2) for slot, model in zip(("high", "low"), models, strict=True)}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    _, report = relay(pair, 1, STEPS)
    for slot, steps in (("high", report["switch_step"]), ("low", STEPS - report["switch_step"])):
        seconds = report["seconds"][f"{slot}_noise"] / steps
        yield Row(f"{name} {clip[0]}: a step, {slot} noise", seconds, bare[slot], floor_s)
    yield Row(f"{name} {clip[0]}: hand-over", report["load_seconds"]["low_noise"], note=peak_memory())


def peak_memory() -> str:
    if not torch.cuda.is_available():
        return "peak of GPU memory: no GPU"
    return f"peak of GPU memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"


def lora_rows(plan: Plan, name: str, model: Any) -> Iterator[Row]:
    """A LoRA on an expert that is loaded, and off again: what an opening leg or another job costs."""
    tensors = random_tensors(layout.lora(plan.expert, plan.lora_rank), 3, torch.bfloat16)
    lora = LoraFile(Path("random_high_noise.safetensors"), tensors, {})
    load = comfy.model_management.load_models_gpu
    load([model])
    patched, report, _ = apply_lora(model, lora, 1.0, "high_noise")
    what = f"rank {plan.lora_rank}, {report['layers']} layers"
    yield Row(f"{name}: LoRA on a loaded expert", timed(lambda: load([patched]))[0], note=what)
    yield Row(f"{name}: and off again", timed(lambda: load([model]))[0], note=what)


def nag_rows(plan: Plan, name: str, models: tuple[Any, Any]) -> Iterator[Row]:
    """A step with normalised attention guidance, as its node makes it with its own defaults."""
    node = next((each for each in NODES if each.GET_SCHEMA().node_id == NAG), None)
    if node is None:
        print(f"not measured: NAG, because this version has no {NAG}")
        return
    pair = inputs_of(plan, models, plan.clips[0])
    given = {"high_noise": pair.high, "low_noise": pair.low, "negative": pair.negative}
    defaults = {
        each.id: each.default for each in node.GET_SCHEMA().inputs if getattr(each, "default", None) is not None
    }
    high, low = node.execute(**(defaults | given)).args[:2]
    seconds = []
    for patched in (pair, pair._replace(high=high, low=low)):
        relay(patched, 0, STEPS)
        report = relay(patched, 1, STEPS)[1]
        seconds.append(sum(report["seconds"].values()) / STEPS)
    yield Row(f"{name} {plan.clips[0][0]}: a step with NAG", seconds[1], note=f"without {seconds[0]:.3f} s")


def video_rows(plan: Plan, clip: tuple[str, int, int, int]) -> Iterator[Row]:
    """Decoding a random latent, and saving frames that lie where the decoder leaves them."""
    name, width, height, frames = clip
    vae = comfy.sd.VAE(sd=random_tensors(layout.vae(plan.vae), 4, torch.float32))
    latent = torch.randn(1, plan.vae.z_dim, (frames - 1) // 4 + 1, height // 8, width // 8)
    vae.decode(latent[:, :, :1])
    decoded: list[torch.Tensor] = []
    seconds, _ = timed(lambda: decoded.append(vae.decode(latent)))
    yield Row(f"{name}: VAE decode", seconds, note=str(vae.vae_dtype))
    device = comfy.model_management.get_torch_device()
    images = decoded[0].reshape(-1, height, width, 3)[:frames].clamp(0, 1).to(device)
    with tempfile.TemporaryDirectory() as folder:
        once = [timed(lambda: save_ours(images, Path(folder)))[0] for _ in range(2)]
    yield Row(f"{name}: save h264 from {device.type}", statistics.median(once), note=f"{frames} frames of noise")


Section = Callable[[], Iterator[Row]]


def sections(plan: Plan) -> Iterator[Section]:
    """What is measured, the most wanted first, one pair in memory at a time."""
    for name, options in weight_types().items():
        models = random_pair(plan, options)
        for clip in plan.clips:
            yield partial(steps_rows, plan, name, models, clip)
        yield partial(lora_rows, plan, name, models[0])
        if name == "bf16":
            yield partial(nag_rows, plan, name, models)
            for clip in plan.clips:
                yield partial(video_rows, plan, clip)
        del models
        comfy.model_management.unload_all_models()
        gc.collect()
        comfy.model_management.soft_empty_cache()


def measure(plan: Plan, limit_s: float = LIMIT_S) -> list[Row]:
    """Every figure, printed as it comes; what would begin after `limit_s` is left out, and said."""
    began, rows = time.perf_counter(), []
    for section in sections(plan):
        if time.perf_counter() - began > limit_s:
            print(f"not measured for want of time: what comes after {limit_s:.0f} s")
            break
        for row in section():
            rows.append(row)
            print_row(row)
        del section  # it holds the pair, and the next one is loaded now
    return rows


def print_row(row: Row) -> None:
    beside = "" if row.beside_s is None else f"bare {row.beside_s:.3f} s, ratio {row.seconds / row.beside_s:.3f}"
    floor = "" if row.floor_s is None else f"roofline {row.floor_s:.3f} s"
    print(
        f"{row.what:44}{row.seconds:9.3f} s  {', '.join(part for part in (beside, floor, row.note) if part)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="the toy size, on a GPU too")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_grad_enabled(False)
    device = comfy.model_management.get_torch_device()
    if device.type == "cpu":
        hint = "; set WAN_RELAY_GPU=1" if torch.cuda.is_available() else ""
        print(f"Nothing is measured, for want of a GPU{hint}: the toy size on a CPU only shows that this runs.")
        flops = [forward_flops(REAL, (1, 16, 21, height // 8, width // 8)) for _, width, height, _ in REAL_PLAN.clips]
        for (name, *_), each in zip(REAL_PLAN.clips, flops, strict=True):
            print(f"One forward pass at {name} is {each / 1e15:.3f} PFLOP, {each / ASSUMED_TFLOPS / 1e12:.2f} s at "
                  f"{ASSUMED_TFLOPS} TFLOP/s.")  # fmt: skip
    else:
        print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, roofline at {ASSUMED_TFLOPS} TFLOP/s")
    measure(TOY_PLAN if options.toy or device.type == "cpu" else REAL_PLAN)
    print_published()


if __name__ == "__main__":
    main()
