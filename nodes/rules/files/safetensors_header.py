"""What a safetensors file says about itself, read without touching a single weight.

Layout (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header, then the data.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import FileRefused

# The limit of the safetensors library: a file with a longer header cannot be loaded anyway.
MAX_HEADER_BYTES = 100_000_000

BITS_PER_ELEMENT = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip

FOREIGN_FORMATS = (
    (b"GGUF", "a GGUF file that is named like a safetensors file"),
    (b"PK\x03\x04", "a PyTorch pickle or a zip archive"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it points to"),
    (b"<!doctype", "a web page, probably a login or an error page of the download site"),
    (b"<html", "a web page, probably a login or an error page of the download site"),
    (b'{"error', "an error message of the download site"),
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: `begin` and `end` are byte offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class FileHeader:
    """Names, shapes and places of all tensors of a model file, and its metadata."""

    path: Path
    bytes: int
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, Any]


def read_header(path: str | Path) -> FileHeader:
    """Read the header of a safetensors file and check that the file holds what the header lists.

    Raises FileRefused, one sentence, for anything that is not a complete safetensors file.
    """
    path = Path(path)
    if path.is_dir():
        raise FileRefused(
            f"Expected one safetensors file, got the folder {path.name} (a diffusers layout cannot be loaded)."
        )
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(32)
            _refuse_foreign(path.name, file_bytes, start)
            (header_bytes,) = struct.unpack("<Q", start[:8])
            if header_bytes > MAX_HEADER_BYTES:
                raise FileRefused(
                    f"Expected a safetensors file, but {path.name} gives its header {header_bytes} bytes "
                    f"(at most {MAX_HEADER_BYTES}): it is another format, or damaged."
                )
            if 8 + header_bytes > file_bytes:
                raise FileRefused(
                    f"{path.name} is cut short: its header alone has {header_bytes} bytes and the file has "
                    f"{file_bytes}; download it again."
                )
            file.seek(8)
            raw = file.read(header_bytes)
    except OSError as error:
        raise FileRefused(f"{path.name} cannot be read: {error.strerror or 'input/output error'}.") from None
    tensors, metadata = _parse(path.name, raw, 8 + header_bytes)
    _check_extent(path.name, tensors, 8 + header_bytes, file_bytes)
    return FileHeader(path, file_bytes, MappingProxyType(tensors), MappingProxyType(metadata))


def _refuse_foreign(name: str, file_bytes: int, start: bytes) -> None:
    if file_bytes == 0:
        raise FileRefused(f"{name} is empty (0 bytes): the download or the copy failed.")
    lowered = start.lstrip().lower()
    for magic, what in FOREIGN_FORMATS:
        if start.startswith(magic) or lowered.startswith(magic):
            raise FileRefused(f"Expected a safetensors file, but {name} is {what}.")
    if file_bytes < 10:
        raise FileRefused(f"Expected a safetensors file, but {name} has only {file_bytes} bytes.")


def _parse(name: str, raw: bytes, data_start: int) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    damaged = FileRefused(f"Expected a safetensors file, but the header of {name} is damaged or of another format.")
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", None) or {}
        tensors = {key: _tensor_info(entry, data_start) for key, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise damaged from None
    if not isinstance(metadata, dict):
        raise damaged
    if not tensors:
        raise FileRefused(f"{name} is a safetensors file without any tensor.")
    return tensors, metadata


def _tensor_info(entry: dict[str, Any], data_start: int) -> TensorInfo:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    dtype = entry["dtype"]
    if type(dtype) is not str or not all(type(n) is int and n >= 0 for n in (begin, end, *shape)) or begin > end:
        raise ValueError("offsets and sizes are whole numbers")
    bits = BITS_PER_ELEMENT.get(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        raise ValueError("a tensor's bytes do not match its shape")
    return TensorInfo(dtype, shape, data_start + begin, data_start + end)


def _check_extent(name: str, tensors: dict[str, TensorInfo], data_start: int, file_bytes: int) -> None:
    listed = max(info.end for info in tensors.values())
    if listed > file_bytes:
        raise FileRefused(
            f"{name} is cut short: it should have {listed} bytes and has {file_bytes} "
            f"({listed - file_bytes} are missing); download it again."
        )
    stored = sum(info.end - info.begin for info in tensors.values())
    if listed != file_bytes or data_start + stored != listed:
        raise FileRefused(
            f"{name} is damaged: its header does not describe exactly the {file_bytes} bytes of the file."
        )
