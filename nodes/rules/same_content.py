"""Whether two model files hold the same weights, from a few kilobytes of each."""

from .safetensors_header import FileHeader, TensorInfo

NUM_SAMPLES = 48
SAMPLE_BYTES = 4096


def same_content(first: FileHeader, first_prefix: str, second: FileHeader, second_prefix: str) -> bool:
    """Whether both files hold the same tensors, judged by names, shapes and up to 48 samples of 4 KB.

    Two experts differ in the first sample, so that this reads little unless the files are copies of each other; other
    metadata or another prefix do not hide a copy.
    """
    if first.path.samefile(second.path):
        return True
    ours, theirs = _own(first, first_prefix), _own(second, second_prefix)
    if [(name, info.dtype, info.shape) for name, info in ours] != [
        (name, info.dtype, info.shape) for name, info in theirs
    ]:
        return False
    large = [(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True) if a.end - a.begin >= 256] or [
        (ours[0][1], theirs[0][1])
    ]
    chosen = large[:: max(1, len(large) // NUM_SAMPLES)][:NUM_SAMPLES]
    with first.path.open("rb") as one, second.path.open("rb") as other:
        return all(_sample(one, a) == _sample(other, b) for a, b in chosen)


def _own(header: FileHeader, prefix: str) -> list[tuple[str, TensorInfo]]:
    return sorted((name[len(prefix) :], info) for name, info in header.tensors.items() if name.startswith(prefix))


def _sample(file, info: TensorInfo) -> bytes:  # type: ignore[no-untyped-def]
    size = info.end - info.begin
    file.seek(info.begin + max(0, size - SAMPLE_BYTES) // 2)
    return file.read(min(size, SAMPLE_BYTES))
