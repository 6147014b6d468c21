import json
import struct
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.safetensors_header import read_header
from wan_relay.nodes.rules.files.text_encoder_file import check_text_encoder, encoder_config, encoder_identity

RECOGNISED = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 1)}
UMT5 = RECOGNISED | {
    "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": (32, 4),
    "spiece_model": (1000,),
}


def write(path: Path, shapes: dict[str, tuple[int, ...]], fill: int = 0, metadata: dict | None = None) -> Path:
    """A safetensors file of 8-bit tensors, all bytes `fill`."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = 1
        for side in shape:
            size *= side
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes([fill]) * end)
    return path


def without(name: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in UMT5.items() if name not in key}


def test_umt5_passes(tmp_path: Path) -> None:
    check_text_encoder(read_header(write(tmp_path / "umt5.safetensors", UMT5)))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"text_model.encoder.layers.0.mlp.fc1.weight": (4, 4)}, "which is another model"),
        (UMT5 | {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (5120, 1)}, "which is another model"),
        (without("relative_attention_bias"), "a T5-XXL, not UMT5"),
        (without("spiece_model"), "carries no tokenizer"),
        ({"blocks.0.attn.q.weight": (4, 4)}, "in Wan's own layout"),
    ],
)
def test_other_encoders_are_refused(tmp_path: Path, shapes: dict, words: str) -> None:
    header = read_header(write(tmp_path / "other.safetensors", shapes))
    with pytest.raises(FileRefused, match=f"text_encoder must be UMT5-XXL .*, got other.safetensors, .*{words}"):
        check_text_encoder(header)


def test_config_is_read_from_metadata_and_optional(tmp_path: Path) -> None:
    def config(metadata: dict | None) -> dict:
        return encoder_config(read_header(write(tmp_path / "umt5.safetensors", UMT5, metadata=metadata)))

    assert config({"config": json.dumps({"text_encoder": {"d_model": 64}})}) == {"d_model": 64}
    for none in (None, {"config": "not json"}, {"config": "[]"}, {"config": '{"text_encoder": 3}'}):
        assert config(none) == {}


def test_identity_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    original = write(tmp_path / "a.safetensors", UMT5, fill=1)
    (tmp_path / "folder").mkdir()
    copy = write(tmp_path / "folder" / "renamed.safetensors", UMT5, fill=1)
    assert encoder_identity(copy) == encoder_identity(original)
    assert encoder_identity(write(tmp_path / "b.safetensors", UMT5, fill=2)) != encoder_identity(original)


def test_identity_sees_a_change_in_any_one_tensor(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", UMT5)
    before = encoder_identity(path)
    for tensor in read_header(path).tensors.values():
        content = bytearray(path.read_bytes())
        content[(tensor.begin + tensor.end) // 2] ^= 1
        changed = tmp_path / "changed.safetensors"
        changed.write_bytes(content)
        assert encoder_identity(changed) != before


def test_identity_sees_names_and_metadata(tmp_path: Path) -> None:
    plain = encoder_identity(write(tmp_path / "a.safetensors", UMT5))
    renamed = {name.replace("spiece", "other"): shape for name, shape in UMT5.items()}
    configured = {"config": json.dumps({"text_encoder": {"num_layers": 2}})}
    assert encoder_identity(write(tmp_path / "a.safetensors", renamed)) != plain
    assert encoder_identity(write(tmp_path / "a.safetensors", UMT5, metadata=configured)) != plain


def test_identity_reads_a_vanishing_part_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "big.safetensors", UMT5 | {"shared.weight": (50_000_000,)})
    read = 0
    real_open = Path.open

    def counting_open(self: Path, *args, **kwargs):
        file = real_open(self, *args, **kwargs)
        real_read = file.read

        class Counting:
            def read(self, size: int = -1) -> bytes:
                nonlocal read
                data = real_read(size)
                read += len(data)
                return data

            def __enter__(self):
                return self

            def __exit__(self, *exc) -> None:
                file.close()

            def __getattr__(self, name: str):
                return getattr(file, name)

        return Counting()

    monkeypatch.setattr(Path, "open", counting_open)
    encoder_identity(path)
    assert 1000 < read < 5000


def test_identity_of_another_format_is_its_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "umt5.pth"
    path.write_bytes(b"x" * 10)
    first = encoder_identity(path)
    assert encoder_identity(path) == first
    path.write_bytes(b"x" * 11)
    assert encoder_identity(path) != first
