"""Tiny model and LoRA files in the real layouts, written byte by byte: no torch, no safetensors library."""

import json
import math
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wan_relay.toy import layout
from wan_relay.toy.sizes import ExpertSize

BYTES_PER_ELEMENT = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
CHANNELS = {"i2v": (36, 16), "t2v": (16, 16), "ti2v_5b": (48, 48)}
Listing = dict[str, tuple[str, tuple[int, ...]]]


def expert_listing(kind: str = "i2v", dtype: str = "F16", prefix: str = "", **sizes: int) -> Listing:
    """name -> (dtype, shape) of a whole expert with small sizes."""
    in_dim, out_dim = CHANNELS.get(kind, (36, 16))
    small: dict[str, Any] = {"dim": 8, "ffn_dim": 12, "num_layers": 2, "text_dim": 4, "freq_dim": 4, **sizes}
    shapes = layout.expert(ExpertSize(in_dim=in_dim, out_dim=out_dim, **small))
    return {prefix + name: (dtype, shape) for name, shape in shapes.items()}


def is_block_weight(name: str, shape: tuple[int, ...]) -> bool:
    return "blocks." in name and name.endswith(".weight") and len(shape) == 2


def write_model(path: Path, listing: Listing, metadata: dict[str, str] | None = None, seed: int = 0) -> Path:
    """Write a safetensors file whose bytes depend on `seed`; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header, data = _header(listing, metadata), random.Random(seed).randbytes(_data_bytes(listing))
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def write_sparse_model(path: Path, listing: Listing) -> Path:
    """Write the header of a large file, and its data as a hole that takes no space on the disk."""
    header = _header(listing, None)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + _data_bytes(listing))
    return path


def write_gguf(
    path: Path,
    listing: Listing,
    architecture: str | None = "wan",
    version: int = 3,
    pairs: Sequence[bytes] = (),
) -> Path:
    """Write a GGUF file: F32 and F16 tensors, five-dimensional ones with their original shape as a key-value pair.

    `pairs`: more key-value pairs, each as the bytes of key, type and value; they come last and so win.
    """
    first = (
        []
        if architecture is None
        else [gguf_text("general.architecture") + struct.pack("<I", 8) + gguf_text(architecture)]
    )
    infos, offset = [], 0
    for name, (dtype, shape) in listing.items():
        stored = shape if len(shape) <= 4 else (math.prod(shape[:-3]), *shape[-3:])
        if stored != shape:
            value = struct.pack("<IIQ", 9, 5, len(shape)) + struct.pack(f"<{len(shape)}i", *shape)
            first.append(gguf_text(f"comfy.gguf.orig_shape.{name}") + value)
        dims = struct.pack(f"<I{len(stored)}Q", len(stored), *reversed(stored))
        infos.append(gguf_text(name) + dims + struct.pack("<IQ", {"F32": 0, "F16": 1}[dtype], offset))
        offset += -(-math.prod(shape) * BYTES_PER_ELEMENT[dtype] // 32) * 32
    all_pairs = [*first, *pairs]
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(all_pairs)) + b"".join([*all_pairs, *infos])
    path.write_bytes(head + bytes(-len(head) % 32) + random.Random(path.name).randbytes(offset))
    return path


def _header(listing: Listing, metadata: dict[str, str] | None) -> bytes:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape) in listing.items():
        begin, end = end, end + math.prod(shape) * BYTES_PER_ELEMENT[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    return raw + b" " * (-len(raw) % 8)


def _data_bytes(listing: Listing) -> int:
    return sum(math.prod(shape) * BYTES_PER_ELEMENT[dtype] for dtype, shape in listing.values())


def gguf_text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
