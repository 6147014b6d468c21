"""Makes the toy family's weights: `python3 dev.py run toy.training.train vae|experts|lora|all [--folder DIR]`.

    vae      the linear codec, by gradient from principal components, written into the Wan2.1 VAE's layout; then the
             VAE's decoder, which learns to draw edges
    experts  the bank of clips as latents; the structured start (expert_start.py); then the high- and the low-noise
             expert, each trained by flow matching on its own side of the boundary, at the end on doubtful captions
    lora     the 4-step LoRA pair on top of the experts
    all      vae, experts, lora, then a copy into toy/weights

Everything is seeded. A machine may go away at any time: what is finished lies in the folder and is not made again, and
the codec, the decoder and the experts save every two minutes and go on from there. The fits, the shift networks and
the LoRAs take minutes and start over. --hours is the clock of the experts' flow matching and the LoRA together;
everything before takes less than two hours on two processor cores.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..family import EXPERTS, VAE_SEED, WEIGHTS, ensure_file, merged
from ..wan_vae import LatentSpace, latent_space, silent_vae, vae_from_linear_codec
from . import expert_fits, key_fits, noise_fits
from . import expert_training as training
from .attention_heads import COLUMN, ROW, Weights
from .expert_start import FREE_BLOCK, MARK_CHANNEL, skeleton, write_keyframes, write_shift
from .latent_bank import make_shards
from .patch_shift import ShiftNetwork, all_shifts, train_shift
from .saved_training import save_state
from .train_codec import codec_clips, train_codec
from .train_decoder import train_decoder
from .train_experts import Plan, train_expert
from .train_lora import FourSteps, train_lora

SEED = 1
SMALL, LARGE = (33, 96, 128), (33, 160, 240)  # frames, height, width
NUM_SHARDS = {SMALL: 62, LARGE: 12}
SURE, IN_DOUBT = training.Doubt(dropped=0.1, wrong=0.05), training.Doubt(dropped=0.1, wrong=0.45)
SIDES = {"high": (training.BOUNDARY, 1.0), "low": (training.SMALLEST_SIGMA, training.BOUNDARY)}  # sigmas
SHARES = {"sure": 0.34, "in doubt": 0.09, "lora": 0.07}  # of --hours, for each expert
LEARNING_RATES = {"sure": 2e-3, "in doubt": 1e-3, "lora": 1e-3}


def make_vae(folder: Path) -> None:
    """`vae.safetensors`, without what `silent_vae` makes."""
    if (folder / "vae.safetensors").exists():
        return
    codec, clips = train_codec(folder / "codec.pt"), codec_clips(40)
    linear = vae_from_linear_codec(LatentSpace.measure(codec, clips), clips, VAE_SEED)
    weights = train_decoder(folder / "decoder.pt", linear)
    silent = silent_vae(VAE_SEED)
    _save(folder / "vae.safetensors", {n: t for n, t in weights.items() if not torch.equal(t, silent[n])})


def make_experts(folder: Path, hours: float) -> None:
    """`i2v_{high,low}_noise.safetensors`, and `{high,low}_sure.pt`, what they were before they were taught doubt."""
    paths = {expert: folder / f"i2v_{expert}_noise.safetensors" for expert in EXPERTS}
    missing = [expert for expert in EXPERTS if not paths[expert].exists()]
    if not missing:
        return
    space = latent_space(silent_vae(VAE_SEED) | load_file(folder / "vae.safetensors"))
    make_shards(space, folder / "bank/small", NUM_SHARDS[SMALL], 0, SMALL)
    make_shards(space, folder / "bank/large", NUM_SHARDS[LARGE], 5000, LARGE)
    captions = _captions(folder)
    start = structured_start(folder, space, captions)
    bank = training.Bank(folder / "bank", captions)
    pans = [_pans(bank, shard, 3) for shard in bank.shards]
    for expert in missing:
        own = {name: tensor.clone() for name, tensor in start.items()}
        noise_fits.fit_noise_gains(own, pans, *SIDES[expert])
        sure = Plan(expert, 3600 * hours * SHARES["sure"], LEARNING_RATES["sure"], SURE)
        weights = train_expert(folder / f"{expert}_sure.pt", own, bank, sure)
        doubtful = Plan(expert, 3600 * hours * SHARES["in doubt"], LEARNING_RATES["in doubt"], IN_DOUBT, head=False)
        _save(paths[expert], train_expert(folder / f"{expert}_in_doubt.pt", weights, bank, doubtful))


def structured_start(folder: Path, space: LatentSpace, captions: training.Captions) -> Weights:
    """`start.pt`: weights that know where a token is, what is asked and roughly where to look; see expert_start.py."""
    path = folder / "start.pt"
    if path.exists():
        return torch.load(path)
    weights = fitted_start(folder, space, captions)
    shifts = all_shifts(space, folder / "shifts")
    for part in (COLUMN, ROW):
        network, shift_path = ShiftNetwork(), folder / f"shift_{'across' if part == COLUMN else 'down'}.pt"
        if shift_path.exists():
            network.load_state_dict(torch.load(shift_path))
        else:
            network = train_shift(shifts, part, steps=25_000, seed=SEED)
            save_state(shift_path, network.state_dict())
        write_shift(weights, part, network)
    save_state(path, weights)
    return weights


def fitted_start(folder: Path, space: LatentSpace, captions: training.Captions) -> Weights:
    """`fits.pt`: the skeleton with block 0 fitted."""
    path = folder / "fits.pt"
    if path.exists():
        return torch.load(path)
    bank = training.Bank(folder / "bank/small", captions)
    grey = torch.stack([shard["first"][:, :, 4].float().mean((0, 2, 3)) for shard in bank.shards]).mean(dim=0)
    grey[MARK_CHANNEL] = 0.0
    weights = skeleton(grey, SEED)
    print("move, squared error:", expert_fits.fit_directions(weights, captions, steps=3000, seed=SEED), flush=True)
    print("source, squared error:", expert_fits.fit_source(weights, steps=12_000, seed=SEED), flush=True)
    print("the way to an end, squared error:", expert_fits.fit_way(weights, steps=26_000, seed=SEED), flush=True)
    still, first = key_fits.fit_keyframes(space, grey, SEED)
    print("an end's picture, share of the variance missed:", still.missed, first.missed, flush=True)
    write_keyframes(weights, still, first)
    save_state(path, weights)
    return weights


def make_lora(folder: Path, hours: float) -> None:
    """`i2v_{high,low}_noise_4step_lora.safetensors`, for the experts in the folder."""
    bank = training.Bank(folder / "bank", _captions(folder))
    before: Weights | None = None  # the finished high-noise expert, whose two steps come before the low-noise one's
    for expert in EXPERTS:
        base = {n: t.float() for n, t in load_file(folder / f"i2v_{expert}_noise.safetensors").items()}
        path = folder / f"i2v_{expert}_noise_4step_lora.safetensors"
        if not path.exists():
            sure = torch.load(folder / f"{expert}_sure.pt")["average"]
            seconds = 3600 * hours * SHARES["lora"]
            steps = FourSteps(None if before is None else training.build_expert(before).requires_grad_(False))
            _save(path, train_lora(base, sure, bank, steps, seconds, LEARNING_RATES["lora"]))
        before = merged(base, load_file(path))


def ship(folder: Path) -> None:
    """Copy the family into toy/weights: what both experts have in common once, of a LoRA only what changes a layer."""
    experts = {expert: load_file(folder / f"i2v_{expert}_noise.safetensors") for expert in EXPERTS}
    own = [name for name, tensor in experts["high"].items() if not torch.equal(tensor, experts["low"][name])]
    _save(WEIGHTS / "i2v_both_experts.safetensors", {n: t for n, t in experts["high"].items() if n not in own})
    for expert in EXPERTS:
        _save(WEIGHTS / f"i2v_{expert}_noise.safetensors", {name: experts[expert][name] for name in own})
        lora = load_file(folder / f"i2v_{expert}_noise_4step_lora.safetensors")
        spoken = {name: tensor for name, tensor in lora.items() if f".{FREE_BLOCK}." in name}
        _save(WEIGHTS / f"i2v_{expert}_noise_4step_lora.safetensors", spoken)
    shutil.copy(folder / "vae.safetensors", WEIGHTS / "vae.safetensors")


def _pans(bank: training.Bank, shard: dict, count: int) -> training.Batch:
    """A shard's first still clips and pans, the first frame known."""
    rows = [row for row, move in enumerate(shard["moves"]) if move == "still" or move.startswith("pan")][:count]
    sentences = [shard["captions"][row][0] for row in rows]
    return bank.make_batch([(shard, row) for row in rows], ["first"] * len(rows), sentences, 9)


def _captions(folder: Path) -> training.Captions:
    return training.Captions(ensure_file(folder, "text_encoders/toy_umt5.safetensors"))


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("vae", "experts", "lora", "all"))
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/wan-relay-toy-training")
    parser.add_argument("--hours", type=float, default=2.0, help="clock of the transformers' training")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.stage in ("vae", "all"):
        make_vae(folder)
    if arguments.stage in ("experts", "all"):
        make_experts(folder, arguments.hours)
    if arguments.stage in ("lora", "all"):
        make_lora(folder, arguments.hours)
    if arguments.stage == "all":
        ship(folder)


if __name__ == "__main__":
    main()
