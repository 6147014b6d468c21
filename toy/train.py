"""Makes the toy family's weights from nothing: `python3 dev.py run toy.train vae|experts|lora|all [--folder DIR]`.

    vae      the linear codec, by gradient from principal components, written into the Wan2.1 VAE's layout
    experts  the bank of clips as latents, then the high and the low expert: written down, then fitted
    refine   gradient training of the experts from there, for --seconds each; what more compute is for
    lora     the 4-step LoRA pair on top of the experts
    all      vae, experts, lora, then a copy into toy/weights

Everything is seeded. Each stage leaves its result in the folder and is skipped when that is there, so that a machine
may go away at any time; codec and refine training also save every few minutes and go on from there.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from . import captions as grammar
from . import expert_fits, noise_fits
from . import expert_training as training
from .expert_start import MARK_CHANNEL, skeleton
from .family import EXPERTS, WEIGHTS, ensure_family
from .latent_bank import make_shards
from .linear_codec import LinearCodec
from .train_codec import codec_clips, train_codec
from .train_experts import train_expert
from .wan_vae import LatentSpace, vae_from_linear_codec

SEED = 1
PANS = [move for move in grammar.MOVES if not move.startswith("zoom")]
NUM_SHARDS = 12
SHARD_SIZE = (96, 128)
WELL_COPIED = {"high": 1.0, "low": 0.75}  # share of patches that the head is fitted on


def make_vae(folder: Path) -> None:
    """`vae.safetensors` and `space.pt`, which is the same encoder as a small linear one."""
    if (folder / "vae.safetensors").exists():
        return
    codec, clips = train_codec(folder / "codec.pt"), codec_clips(40)
    space = LatentSpace.measure(codec, clips)
    state = {"codec": codec.state_dict(), "matrix": space.matrix, "offset": space.offset}
    training.save_state(folder / "space.pt", state)
    _save(folder / "vae.safetensors", vae_from_linear_codec(space, clips, SEED))


def make_experts(folder: Path) -> None:
    """`i2v_{high,low}_noise.safetensors`."""
    state = torch.load(folder / "space.pt")
    codec = LinearCodec()
    codec.load_state_dict(state["codec"])
    make_shards(LatentSpace(codec, state["matrix"], state["offset"]), folder / "bank", NUM_SHARDS, 0, *SHARD_SIZE)
    if all((folder / f"i2v_{expert}_noise.safetensors").exists() for expert in EXPERTS):
        return
    captions = _captions(folder)
    bank = training.Bank(folder / "bank", captions)
    grey = torch.stack([shard["first"][:, :, 4].float().mean((0, 2, 3)) for shard in bank.shards]).mean(dim=0)
    grey[MARK_CHANNEL] = 0.0
    weights = skeleton(grey, SEED)
    print("move, squared error:", expert_fits.fit_directions(weights, captions, steps=500, seed=SEED), flush=True)
    print("source, squared error:", expert_fits.fit_source(weights, steps=2500, seed=SEED), flush=True)
    print("pictures, squared error:", expert_fits.fit_pictures(weights, bank.shards), flush=True)
    pans = _batches(bank, 3, first=0, moves=PANS)
    every = _batches(bank, 4, first=0) + _batches(bank, 4, first=4, num_latent_frames=5)
    for expert, sigmas in (("high", (0.9, 1.0)), ("low", (0.02, 0.9))):
        own = {name: tensor.clone() for name, tensor in weights.items()}
        noise_fits.fit_noise_gains(own, pans, *sigmas)
        errors = noise_fits.fit_head(own, every, expert, WELL_COPIED[expert], seed=3)
        print(f"{expert} head, squared error before and after:", errors, flush=True)
        _save(folder / f"i2v_{expert}_noise.safetensors", own)


def refine_experts(folder: Path, seconds: float, learning_rate: float) -> None:
    """Gradient training of both experts; replaces their files by the averaged weights."""
    for expert in EXPERTS:
        path = folder / f"i2v_{expert}_noise.safetensors"
        train_expert(folder, f"refined_{expert}", expert, path, _captions(folder), seconds, learning_rate)
        _save(path, torch.load(folder / f"refined_{expert}.pt")["average"])


def make_lora(folder: Path) -> None:
    """`i2v_{high,low}_noise_4step_lora.safetensors`, for the experts in the folder."""
    bank = training.Bank(folder / "bank", _captions(folder))
    batches = _batches(bank, 8, first=0, moves=PANS) + _batches(bank, 8, first=8, moves=PANS, num_latent_frames=5)
    for expert in EXPERTS:
        weights = {n: t.float() for n, t in load_file(folder / f"i2v_{expert}_noise.safetensors").items()}
        lora, before, after = noise_fits.fit_lora(weights, batches, expert, seed=3)
        print(f"{expert} LoRA, squared error before and after: {before:.4f} {after:.4f}", flush=True)
        _save(folder / f"i2v_{expert}_noise_4step_lora.safetensors", lora)


def _batches(
    bank: training.Bank, size: int, first: int, moves: list[str] | None = None, num_latent_frames: int = 9
) -> list[training.Batch]:
    """One batch of a shard: its clips from number `first` on, under these moves, with the first frame known."""
    batches = []
    for shard in bank.shards:
        rows = [row for row, move in enumerate(shard["moves"]) if moves is None or move in moves][first : first + size]
        sentences = [shard["captions"][row][0] for row in rows]
        batches.append(bank.make_batch(shard, rows, ["first"] * size, sentences, num_latent_frames))
    return batches


def _captions(folder: Path) -> training.Captions:
    ensure_family(folder / "models")
    return training.Captions(folder / "models/text_encoders/toy_umt5.safetensors")


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("vae", "experts", "refine", "lora", "all"))
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/wan-relay-toy-training")
    parser.add_argument("--seconds", type=float, default=3600.0, help="clock of `refine`, for each expert")
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="of `refine`")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.stage in ("vae", "all"):
        make_vae(folder)
    if arguments.stage in ("experts", "all"):
        make_experts(folder)
    if arguments.stage == "refine":
        refine_experts(folder, arguments.seconds, arguments.learning_rate)
    if arguments.stage in ("lora", "all"):
        make_lora(folder)
    if arguments.stage == "all":
        for path in folder.glob("*.safetensors"):
            shutil.copy(path, WEIGHTS / path.name)


if __name__ == "__main__":
    main()
