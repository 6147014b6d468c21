"""Writes the toy Wan2.2 family into a ComfyUI models folder.

Every file is in its real format and is loaded by ComfyUI's own loaders:

- `diffusion_models/`, by `comfy.sd.load_diffusion_model` (UNETLoader). The file's metadata entry `config` is JSON;
  ComfyUI itself merges its `transformer` object (text_dim, num_heads) into what it reads from the tensors.
- `vae/`, by `comfy.sd.VAE` (VAELoader).
- `loras/`, by `comfy.sd.load_lora_for_models`.
- `upscale_models/`, by UpscaleModelLoader.
- `text_encoders/toy_umt5.safetensors`, by `comfy.sd.load_clip` with `clip_type=CLIPType.WAN`. ComfyUI builds the full
  UMT5-XXL unless `model_options["umt5xxl_model_config"]` says otherwise, so whoever loads this file passes what
  `text_encoder_config(path)` returns: the object `text_encoder` of the JSON in the file's metadata entry `config`
  (d_model, d_ff, d_kv, num_heads, num_layers, vocab_size). A file without that entry is a full-size encoder.
  The sentencepiece tokenizer is the tensor `spiece_model`.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import layout, sizes
from .initial_weights import fresh_weights
from .text_encoder import text_encoder_weights
from .tokenizer import TOKENIZER_FILE
from .upscaler import upscaler_weights
from .wan_vae import silent_vae

WEIGHTS = Path(__file__).parent / "weights"
EXPERTS = ("high", "low")
LORA_SEED = 11
VAE_SEED = 11  # of what is not committed of the VAE: residual branches that say nothing
Tensors = dict[str, torch.Tensor]


def ensure_family(models_dir: Path) -> None:
    """Write every toy file that is missing or of another edition into `models_dir`.

    Seconds, and safe beside another process that does the same: each file is written under a temporary name and
    then renamed. Raises OSError where the folder cannot be written.
    """
    for name in family_files():
        ensure_file(models_dir, name)


def ensure_file(models_dir: Path, name: str) -> Path:
    """`ensure_family` for one of `family_files`; returns where it is."""
    path = Path(models_dir) / name
    if not _is_current(path):
        tensors, config = family_files()[name]()
        _write(path, tensors, config)
    return path


def family_files() -> dict[str, Callable[[], tuple[Tensors, dict]]]:
    """{path inside the models folder: a function that returns the file's tensors and its `config` metadata}."""
    files: dict[str, Callable[[], tuple[Tensors, dict]]] = {}

    def add(name: str, config: Callable[[], dict], make: Callable[..., Tensors], *arguments: Any) -> None:
        files[f"{name}.safetensors"] = lambda: (make(*arguments), config())

    for expert in EXPERTS:
        i2v, t2v = (f"diffusion_models/toy_wan2.2_{kind}_{expert}_noise" for kind in ("i2v", "t2v"))
        add(i2v, partial(_expert_config, sizes.I2V), base_expert, expert)
        add(f"{i2v}_4step", partial(_expert_config, sizes.I2V), merged_expert, expert)
        add(f"{t2v}_4step", partial(_expert_config, sizes.T2V), text_to_video_expert, expert)
        add(f"loras/toy_wan2.2_i2v_{expert}_noise_4step_lora", dict, lora, expert)
    ti2v_5b, tiny_vae = layout.expert(sizes.TI2V_5B), layout.tiny_vae()
    add("diffusion_models/toy_wan2.2_ti2v_5b", partial(_expert_config, sizes.TI2V_5B), fresh_weights, ti2v_5b, 5)
    add("vae/toy_wan_2.1_vae", dict, lambda: silent_vae(VAE_SEED) | _committed("vae"))
    add("vae/toy_wan2.2_vae", dict, fresh_weights, tiny_vae, 12)
    add("text_encoders/toy_umt5", lambda: {"text_encoder": _text_encoder_config()}, _text_encoder)
    add("upscale_models/toy_upscaler_x2", dict, upscaler_weights)
    return files


def text_encoder_config(path: Path) -> dict | None:
    """The UMT5 sizes that a text encoder file names in its metadata, or None for a full-size file."""
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    return json.loads(metadata.get("config", "{}")).get("text_encoder")


def base_expert(expert: str) -> Tensors:
    """The I2V expert `high` or `low` before distillation: what both have in common, and what is its own."""
    return _committed("i2v_both_experts") | _committed(f"i2v_{expert}_noise")


def lora(expert: str) -> Tensors:
    """The 4-step LoRA of one expert. It changes few layers; what it says about the others is not committed."""
    return silent_lora() | _committed(f"i2v_{expert}_noise_4step_lora")


def silent_lora() -> Tensors:
    """A LoRA for every layer that changes none of them."""
    lora = fresh_weights(layout.lora(sizes.I2V, sizes.LORA_RANK), LORA_SEED)
    for name, tensor in lora.items():
        if name.endswith("lora_up.weight"):
            tensor.zero_()
        elif name.endswith("alpha"):
            tensor.fill_(sizes.LORA_ALPHA)
    return lora


def merged_expert(expert: str) -> Tensors:
    """The I2V expert with its 4-step LoRA merged in, as distilled checkpoints are shipped."""
    return merged(base_expert(expert), lora(expert))


def merged(weights: Tensors, low_rank: Tensors) -> Tensors:
    """`weights` with a LoRA in lightx2v's layout added."""
    weights = dict(weights)
    for name in [name for name in low_rank if name.endswith(".alpha")]:
        key = name.removesuffix(".alpha")
        down, up = low_rank[f"{key}.lora_down.weight"].float(), low_rank[f"{key}.lora_up.weight"].float()
        target = key.removeprefix("diffusion_model.") + ".weight"
        scale = low_rank[name].item() / down.shape[0]
        weights[target] = weights[target].float() + scale * (up @ down)
    return weights


def text_to_video_expert(expert: str) -> Tensors:
    """The merged I2V expert without its image channels: what it computes when no image is given."""
    weights = merged_expert(expert)
    noise_channels = sizes.T2V.in_dim
    weights["patch_embedding.weight"] = weights["patch_embedding.weight"][:, :noise_channels].contiguous()
    return weights


def _committed(name: str) -> Tensors:
    return load_file(WEIGHTS / f"{name}.safetensors")


def _text_encoder() -> Tensors:
    tokenizer = torch.frombuffer(bytearray(TOKENIZER_FILE.read_bytes()), dtype=torch.uint8)
    return text_encoder_weights() | {"spiece_model": tokenizer}


def _expert_config(size: sizes.ExpertSize) -> dict:
    return {"transformer": {"text_dim": size.text_dim, "num_heads": size.num_heads}}


def _text_encoder_config() -> dict:
    size = sizes.TEXT
    names = ("d_model", "d_ff", "d_kv", "num_heads", "num_layers", "vocab_size")
    return {name: getattr(size, name) for name in names}


@cache
def edition() -> str:
    """A short hash of everything that the files are made from."""
    digest = hashlib.sha256()
    for path in sorted([*Path(__file__).parent.glob("*.py"), *WEIGHTS.iterdir()]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_current(path: Path) -> bool:
    if not path.is_file():
        return False
    with safe_open(str(path), framework="pt") as file:
        return (file.metadata() or {}).get("wan_relay_toy") == edition()


def _write(path: Path, tensors: Tensors, config: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    metadata = {"wan_relay_toy": edition()} | ({"config": json.dumps(config)} if config else {})
    descriptor, temporary = tempfile.mkstemp(prefix=path.name, suffix=".partial", dir=path.parent)
    os.close(descriptor)
    try:
        save_file(half, temporary, metadata=metadata)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    import sys

    ensure_family(Path(sys.argv[1]))
    print(sys.argv[1])
