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
SUFFIXES = (".safetensors", ".sft")
MAX_HEADER_BYTES = 100_000_000
# Far above every real file, and low enough that names are cheap to compare and sizes to multiply.
MAX_NAME_CHARACTERS = 500
MAX_DIMENSIONS = 64
MAX_NUMBER = 2**63 - 1

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


def read_header(path: str | Path, mapped: bool = False) -> FileHeader:
    """Read the header of a safetensors file and check that the file holds what the header lists.

    `mapped` is for a ComfyUI with dynamic VRAM: it maps the file and takes each tensor by its own offsets
    (comfy/utils.py load_safetensors), so that bytes of no tensor do no harm. Any other reads it with the safetensors
    library, which refuses them. Raises FileRefused, one sentence, for what cannot be loaded.
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
    _refuse_cut(path.name, tensors, file_bytes)
    if not mapped:
        _refuse_as_the_library(path.name, tensors, metadata, 8 + header_bytes, file_bytes)
    return FileHeader(path, file_bytes, MappingProxyType(tensors), MappingProxyType(metadata))


def _refuse_foreign(name: str, file_bytes: int, start: bytes) -> None:
    if file_bytes == 0:
        raise FileRefused(f"{name} is empty (0 bytes): the download or the copy failed.")
    lowered = start.lstrip().lower()
    is_header = start[8:9] == b"{"  # behind its length, which may begin with any byte
    for magic, what in () if is_header else FOREIGN_FORMATS:
        if start.startswith(magic) or lowered.startswith(magic):
            raise FileRefused(f"Expected a safetensors file, but {name} is {what}.")
    if file_bytes < 10:
        raise FileRefused(f"Expected a safetensors file, but {name} has only {file_bytes} bytes.")


def are_sizes(values: object) -> bool:
    """Whether `values` is a list of at most 64 whole numbers of at most 63 bits."""
    return (
        isinstance(values, list | tuple)
        and len(values) <= MAX_DIMENSIONS
        and all(type(number) is int and 0 <= number <= MAX_NUMBER for number in values)
    )


def _parse(name: str, raw: bytes, data_start: int) -> tuple[dict[str, TensorInfo], dict[str, Any]]:
    damaged = FileRefused(f"Expected a safetensors file, but the header of {name} is damaged or of another format.")
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", None)
        tensors = {key: _tensor_info(entry, data_start) for key, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise damaged from None
    if not isinstance(metadata, dict | None) or any(len(key) > MAX_NAME_CHARACTERS for key in tensors):
        raise damaged
    if not tensors:
        raise FileRefused(f"{name} is a safetensors file without any tensor.")
    return tensors, metadata or {}


def _tensor_info(entry: dict[str, Any], data_start: int) -> TensorInfo:
    (begin, end), shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    if not are_sizes(shape) or not are_sizes([begin, end]) or begin > end:
        raise ValueError("offsets and sizes are whole numbers")
    if not isinstance(dtype, str) or len(dtype) > MAX_NAME_CHARACTERS:
        raise ValueError("a type is a short text")
    bits = BITS_PER_ELEMENT.get(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        raise ValueError("a tensor's bytes do not match its shape")
    return TensorInfo(dtype, tuple(shape), data_start + begin, data_start + end)


def _refuse_cut(name: str, tensors: dict[str, TensorInfo], file_bytes: int) -> None:
    listed = max(info.end for info in tensors.values())
    if listed > file_bytes:
        raise FileRefused(
            f"{name} is cut short: it should have {listed} bytes and has {file_bytes} "
            f"({listed - file_bytes} are missing); download it again."
        )


def _refuse_as_the_library(
    name: str, tensors: dict[str, TensorInfo], metadata: dict[str, Any], data_start: int, file_bytes: int
) -> None:
    """Refuse bytes that belong to no tensor or to two, and metadata that is not text."""
    if not all(isinstance(value, str) for value in metadata.values()):
        raise FileRefused(f"{name} is damaged: its metadata holds something else than text.")
    end = data_start
    for info in sorted(tensors.values(), key=lambda info: (info.begin, info.end)):
        if info.begin != end:
            raise FileRefused(
                f"{name} is damaged: its header does not describe exactly the {file_bytes} bytes of the file."
            )
        end = info.end
    if end != file_bytes:
        raise FileRefused(
            f"{name} cannot be loaded: {file_bytes - end} bytes follow the last tensor; download it again."
        )
