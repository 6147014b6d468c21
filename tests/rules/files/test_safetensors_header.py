import json
import struct
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.safetensors_header import MAX_HEADER_BYTES, TensorInfo, read_header
from wan_relay.tests.tiny_models import expert_listing, write_model

SMALL = {"a": ("F32", (2, 3)), "b": ("F16", ())}


def raw_file(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(begin: object, end: object, shape: object = (1,), dtype: object = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_names_shapes_places_and_metadata_are_read(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.safetensors", SMALL, {"title": "x"})
    header = read_header(path)
    start = path.stat().st_size - 26
    assert dict(header.tensors) == {
        "a": TensorInfo("F32", (2, 3), start, start + 24),
        "b": TensorInfo("F16", (), start + 24, start + 26),
    }
    assert dict(header.metadata) == {"title": "x"}
    assert header.bytes == path.stat().st_size


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50], ids=hex)
def test_a_length_that_looks_like_another_formats_mark_is_a_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", length) + json.dumps({"a": entry(0, 1)}).ljust(length).encode() + b"0")
    assert list(read_header(path).tensors) == ["a"]


REFUSED = {
    "empty": (b"", "m.safetensors is empty (0 bytes): the download or the copy failed."),
    "short": (b"abc", "Expected a safetensors file, but m.safetensors has only 3 bytes."),
    "gguf": (b"GGUF" + bytes(60), "is a GGUF file that is named like a safetensors file."),
    "zip": (b"PK\x03\x04" + bytes(60), "is a PyTorch pickle or a zip archive."),
    "pickle": (b"\x80\x02}q\x00" + bytes(60), "is a Python pickle."),
    "html": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page, probably a login or an error page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file"),
    "json error": (b'{"error":"Invalid credentials"}', "is an error message of the download site."),
    "long header": (struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(60), "gives its header 100000001 bytes"),
    "cut in the header": (
        struct.pack("<Q", 5000) + b"{" * 60,
        "cut short: its header alone has 5000 bytes and the file has 68",
    ),
    "not json": (raw_file(b"{" * 40), "the header of m.safetensors is damaged or of another format."),
    "deep json": (raw_file(b"[" * 50_000), "the header of m.safetensors is damaged or of another format."),
    "list": (raw_file([1, 2]), "the header of m.safetensors is damaged or of another format."),
    "no tensor": (raw_file({"__metadata__": {"a": "b"}}), "m.safetensors is a safetensors file without any tensor."),
    "metadata is no object": (
        raw_file({"__metadata__": [1], "a": entry(0, 1)}, b"0"),
        "is damaged or of another format.",
    ),
    "no offsets": (raw_file({"a": {"dtype": "U8", "shape": [1]}}, b"0"), "is damaged or of another format."),
    "negative offset": (raw_file({"a": entry(-1, 0)}, b"0"), "is damaged or of another format."),
    "backward": (raw_file({"a": entry(1, 0)}, b"0"), "is damaged or of another format."),
    "text for a number": (raw_file({"a": entry("0", 1)}, b"0"), "is damaged or of another format."),
    "bool for a number": (raw_file({"a": entry(0, 1, [True])}, b"0"), "is damaged or of another format."),
    "shape and bytes differ": (raw_file({"a": entry(0, 2)}, b"00"), "is damaged or of another format."),
    "cut in the data": (raw_file({"a": entry(0, 9, [9])}, b"0"), "is cut short: it should have "),
    "metadata of a number": (
        raw_file({"__metadata__": {"step": 1}, "a": entry(0, 1)}, b"0"),
        "m.safetensors is damaged: its metadata holds something else than text.",
    ),
    "metadata is zero": (raw_file({"__metadata__": 0, "a": entry(0, 1)}, b"0"), "is damaged or of another format."),
    "a long name": (raw_file({"a" * 501: entry(0, 1)}, b"0"), "is damaged or of another format."),
    "a long type": (raw_file({"a": entry(0, 1, [1], "a" * 501)}, b"0"), "is damaged or of another format."),
    "a shape of nothing": (raw_file({"a": entry(0, 1, "")}, b"0"), "is damaged or of another format."),
    "bytes left over": (
        raw_file({"a": entry(0, 1)}, b"0" * 17),
        "m.safetensors cannot be loaded: 16 bytes follow the last tensor; download it again.",
    ),
    "a gap and an overlap": (
        raw_file({"a": entry(0, 2, [2]), "b": entry(1, 2), "c": entry(3, 4)}, b"0000"),
        "its header does not describe exactly the ",
    ),
    "a gap": (raw_file({"a": entry(0, 1), "b": entry(2, 3)}, b"000"), "its header does not describe exactly the "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, sentence = REFUSED[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileRefused) as refusal:
        read_header(path)
    message = str(refusal.value)
    assert sentence in message
    assert str(tmp_path) not in message
    assert message.endswith(".")


def test_the_missing_bytes_of_a_truncated_file_are_counted(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.safetensors", expert_listing())
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole - 100)
    with pytest.raises(FileRefused, match=rf"should have {whole} bytes and has {whole - 100} \(100 are missing\)"):
        read_header(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"got the folder .* \(a diffusers layout cannot be loaded\)"):
        read_header(tmp_path)
    with pytest.raises(FileRefused, match=r"^gone\.safetensors cannot be read: No such file or directory\.$"):
        read_header(tmp_path / "gone.safetensors")
