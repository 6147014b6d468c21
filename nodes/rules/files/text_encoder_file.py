"""What a text encoder file is: whether it is UMT5-XXL as Wan needs it, and its identity for the prompt cache."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import FileRefused
from .safetensors_header import SUFFIXES, FileHeader, read_header

SAMPLE_BYTES = 256  # from the middle of every tensor


def is_safetensors(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def check_text_encoder(header: FileHeader) -> None:
    """Refuse a file that ComfyUI would load as another encoder, or not at all.

    UMT5-XXL differs from T5-XXL in having a position bias in every block, and needs its own tokenizer.
    """
    name, tensors = header.path.name, header.tensors
    expected = "text_encoder must be UMT5-XXL in ComfyUI's layout, such as umt5_xxl_fp8_e4m3fn_scaled.safetensors"
    if "blocks.0.attn.q.weight" in tensors:
        raise FileRefused(f"{expected}, got {name}, which is in Wan's own layout and cannot be read by ComfyUI.")
    recognised = tensors.get("encoder.block.23.layer.1.DenseReluDense.wi_1.weight")
    if recognised is None or recognised.shape[:1] != (10240,):
        raise FileRefused(f"{expected}, got {name}, which is another model.")
    if "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" not in tensors:
        raise FileRefused(f"{expected}, got {name}, which is a T5-XXL, not UMT5.")
    if "spiece_model" not in tensors:
        raise FileRefused(f"{expected}, got {name}, which carries no tokenizer (spiece_model).")


def encoder_config(header: FileHeader) -> dict[str, Any]:
    """Sizes that differ from UMT5-XXL's, from the file's metadata `config.text_encoder`; empty for the real one."""
    try:
        config = json.loads(header.metadata.get("config", "{}")).get("text_encoder", {})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def encoder_identity(path: Path, mapped: bool = False) -> str:
    """A digest that two copies of one file share wherever they lie, and two different encoders do not.

    safetensors: the header and the middle 256 bytes of every tensor, some 60 KB out of 6.7 GB. Neither path nor
    modification time counts, so that machines which each download the file share one cache. Other formats have
    no readable header: name, size and modification time. `mapped` as in `read_header`.
    """
    digest = hashlib.sha256()
    if not is_safetensors(path):
        stat = path.stat()
        digest.update(json.dumps([path.name, stat.st_size, stat.st_mtime_ns]).encode())
        return digest.hexdigest()
    header = read_header(path, mapped)
    with path.open("rb", buffering=0) as file:
        for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].begin):
            size = min(SAMPLE_BYTES, tensor.end - tensor.begin)
            file.seek((tensor.begin + tensor.end - size) // 2)
            digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
            digest.update(file.read(size))
    digest.update(json.dumps(dict(header.metadata), sort_keys=True).encode())
    return digest.hexdigest()
