"""What a GGUF file says about itself, read without touching a single weight.

Layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, key-value pairs, tensor
infos, then the data, aligned. Only the listing is read here; loading is the work of ComfyUI-GGUF.
"""

import math
import struct
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from ..errors import FileRefused
from .safetensors_header import MAX_NAME_CHARACTERS, MAX_NUMBER, FileHeader, TensorInfo, are_sizes
from .shown_text import shown

MAX_TENSORS = 100_000
MAX_PAIRS = 10_000
MAX_TEXT_BYTES = 64 * 1024 * 1024
MAX_ARRAY_ITEMS = 1_000_000
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."

# ggml type number -> name, elements in a block, bytes of a block.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
}  # fmt: skip
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


def read_gguf_header(path: str | Path) -> FileHeader:
    """Read the tensor list of a GGUF file and check that the file holds what the list names.

    `dtype` of a tensor is its ggml type (`Q4_K`), `shape` is in PyTorch's order. Raises FileRefused, one sentence, for
    anything that is not a complete GGUF file of the Wan architecture.
    """
    path = Path(path)
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise FileRefused(f"Expected a GGUF file, but {path.name} is of another format.")
            version, num_tensors, num_pairs = struct.unpack("<IQQ", file.read(20))
            if version not in (2, 3) or num_tensors > MAX_TENSORS or num_pairs > MAX_PAIRS:
                raise ValueError("not a version that is known")
            pairs = dict(_pair(file) for _ in range(num_pairs))
            listed = [_tensor(file) for _ in range(num_tensors)]
            data_start = _data_start(file.tell(), pairs)
            tensors = {
                name: _place(name, shape, number, offset + data_start, pairs) for name, shape, number, offset in listed
            }
    except FileRefused:
        raise
    except OSError as error:
        raise FileRefused(f"{path.name} cannot be read: {error.strerror or 'input/output error'}.") from None
    except (struct.error, ValueError):
        raise FileRefused(f"Expected a GGUF file, but the header of {path.name} is damaged or cut short.") from None
    architecture = pairs.get("general.architecture")
    if architecture not in ("wan", "pig", None):  # ComfyUI-GGUF looks at the tensors of the last two itself
        raise FileRefused(
            f"Expected a GGUF file of the architecture wan, but {path.name} is {shown(repr(architecture))}."
        )
    end = max((info.end for info in tensors.values()), default=0)
    if not tensors or end > file_bytes:
        raise FileRefused(
            f"{path.name} is cut short: it should have at least {end} bytes and has {file_bytes}; download it again."
        )
    return FileHeader(path, file_bytes, MappingProxyType(tensors), MappingProxyType(pairs))


def _data_start(header_end: int, pairs: dict[str, Any]) -> int:
    alignment = pairs.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        raise ValueError("an alignment is a whole number")
    return -(-header_end // alignment) * alignment


def _place(name: str, shape: tuple[int, ...], number: int, begin: int, pairs: dict[str, Any]) -> TensorInfo:
    dtype, block, block_bytes = _TYPES.get(number, (f"ggml type {number}", 1, 0))
    end = begin + -(-math.prod(shape) // block) * block_bytes
    original = pairs.get(_ORIGINAL_SHAPE + name, shape)
    if not are_sizes(shape) or not are_sizes(original) or math.prod(original) != math.prod(shape) or end > MAX_NUMBER:
        raise ValueError("sizes are whole numbers, and the original shape has as many elements")
    return TensorInfo(dtype, tuple(original), begin, end)


def _pair(file: BinaryIO) -> tuple[str, Any]:
    key = _text(file)
    (kind,) = struct.unpack("<I", file.read(4))
    return key, _value(file, kind)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _ARRAY:
        item_kind, count = struct.unpack("<IQ", file.read(12))
        if count > MAX_ARRAY_ITEMS or item_kind == _ARRAY:
            raise ValueError("an array that no Wan file has")
        return [_value(file, item_kind) for _ in range(count)]
    if kind not in _NUMBERS:
        raise ValueError("an unknown kind of value")
    form = "<" + _NUMBERS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_TEXT_BYTES:
        raise ValueError("a text that is too long")
    raw = file.read(length)
    if len(raw) != length:
        raise ValueError("the file ends inside a text")
    return raw.decode("utf-8", errors="replace")


def _tensor(file: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    name = _text(file)
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError("a name that is too long")
    (num_dims,) = struct.unpack("<I", file.read(4))
    if num_dims > 8:
        raise ValueError("too many dimensions")
    dims = struct.unpack(f"<{num_dims}Q", file.read(8 * num_dims))
    number, offset = struct.unpack("<IQ", file.read(12))
    return name, tuple(reversed(dims)), number, offset
