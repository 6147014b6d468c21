"""Whether two model files hold the same weights, from a few kilobytes of each."""

from typing import BinaryIO

from .safetensors_header import FileHeader, TensorInfo

NUM_SAMPLES = 48
SAMPLE_BYTES = 4096
# A bias or a scale can be the same in two experts; a tensor of this size is not.
MIN_TENSOR_BYTES = 256


def same_content(first: FileHeader, first_prefix: str, second: FileHeader, second_prefix: str) -> bool:
    """Whether both files hold the same tensors, judged by names, shapes and about 48 samples of 4 KB.

    Two experts differ in the first sample, so that this reads little unless the files are copies of each other; other
    metadata or another prefix do not hide a copy.
    """
    ours, theirs = _own(first, first_prefix), _own(second, second_prefix)
    if _layout(ours) != _layout(theirs):
        return False
    pairs = [(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True) if a.end - a.begin >= MIN_TENSOR_BYTES]
    with first.path.open("rb") as one, second.path.open("rb") as other:
        return all(_sample(one, a) == _sample(other, b) for a, b in pairs[:: max(1, len(pairs) // NUM_SAMPLES)])


def _own(header: FileHeader, prefix: str) -> list[tuple[str, TensorInfo]]:
    return sorted((name[len(prefix) :], info) for name, info in header.tensors.items() if name.startswith(prefix))


def _layout(tensors: list[tuple[str, TensorInfo]]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, info.dtype, info.shape) for name, info in tensors]


def _sample(file: BinaryIO, info: TensorInfo) -> bytes:
    size = info.end - info.begin
    file.seek(info.begin + max(0, size - SAMPLE_BYTES) // 2)
    return file.read(min(size, SAMPLE_BYTES))
