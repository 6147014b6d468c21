"""Whatever type or size a header gives any of its fields, a check gives facts or one short sentence."""

import json
import math
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.expert_files import check_pair
from wan_relay.nodes.rules.files.gguf_header import read_gguf_header
from wan_relay.nodes.rules.files.lora_files import check_lora_pair
from wan_relay.nodes.rules.files.safetensors_header import read_header
from wan_relay.nodes.rules.files.text_encoder_file import check_text_encoder, encoder_config, encoder_identity
from wan_relay.nodes.rules.files.vae_file import is_ti2v_5b_vae
from wan_relay.tests.tiny_models import Listing, expert_listing, gguf_text, write_gguf, write_model

NUM_FILES = 200
LONGEST_SENTENCE = 400
DEEP = "[" * 100_000
NAMES = [
    "",
    "a",
    "x" * 450,
    "x" * 100_000,
    "model." * 20_000 + "head.modulation",
    "two\nlines",
    "half \ud800",
    ".weight",
    "\0",
]
VALUES = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**4000, 0.5, 1e300, math.nan, math.inf, "", "F16", "two\nlines",
    "y" * 100_000, DEEP, '{"layers": 3}', '{"layers": [3]}', '{"text_encoder": [1]}', [], [1], [0, 2], ["a"], [None],
    [[1]], [2**62] * 60, [1] * 5000, {}, {"a": 1}, {"shape": [1]},
]  # fmt: skip

METADATA = {"title": "x", "_quantization_metadata": '{"layers": {}}', "config": "{}"}
EXPERT = expert_listing(num_layers=1)
Q = "diffusion_model.blocks.0.self_attn.q"
LORA: Listing = {
    f"{Q}.lora_down.weight": ("F16", (2, 8)),
    f"{Q}.lora_up.weight": ("F16", (8, 2)),
    f"{Q}.alpha": ("F16", ()),
    f"{Q}.diff": ("F16", (8, 8)),
    f"{Q}.lokr_w1": ("F16", (2, 2)),
    f"{Q}.lokr_w2": ("F16", (4, 4)),
    f"{Q}.hada_w1_a": ("F16", (8, 2)),
}
ENCODER: Listing = {
    "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": ("U8", (10240, 1)),
    "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": ("U8", (32, 4)),
    "spiece_model": ("U8", (1000,)),
}
VAE: Listing = {"decoder.22.bias": ("U8", (1,)), "decoder.1.weight": ("U8", (4, 48))}


def check_model(path: Path) -> object:
    partner = path.parent / "partner.safetensors"
    return check_pair(path, partner if partner.exists() else write_model(partner, EXPERT, seed=1))


def check_encoder(path: Path) -> object:
    header = read_header(path)
    check_text_encoder(header)
    return encoder_config(header), encoder_identity(path)


# what the file is -> its tensors, and what reads its header
CHECKS: dict[str, tuple[Listing, Callable[[Path], object]]] = {
    "expert": (EXPERT, check_model),
    "lora": (LORA, lambda path: check_lora_pair(path, None)),
    "text encoder": (ENCODER, check_encoder),
    "vae": (VAE, lambda path: is_ti2v_5b_vae(read_header(path))),
}


def outcomes(check: Callable[[Path], object], files: Iterator[Path]) -> dict[str, int]:
    """How many of the files were read and how many refused; each refusal and each warning is one short line."""
    counts = {"read": 0, "refused": 0}
    for path in files:
        try:
            report = check(path)
            sentences = report["warnings"] if isinstance(report, dict) and "warnings" in report else []
            counts["read"] += 1
        except FileRefused as refusal:
            sentences = [str(refusal)]
            counts["refused"] += 1
        for sentence in sentences:
            assert sentence.isprintable(), sentence[:LONGEST_SENTENCE]
            assert len(sentence) < LONGEST_SENTENCE, sentence[:LONGEST_SENTENCE]
    return counts


def changed_headers(path: Path, listing: Listing) -> Iterator[Path]:
    """`path`, again and again, with one to three fields of its header given another value or name."""
    whole = write_model(path, listing, METADATA).read_bytes()
    (header_bytes,) = struct.unpack("<Q", whole[:8])
    for seed in range(NUM_FILES):
        rng = random.Random(seed)
        header = json.loads(whole[8 : 8 + header_bytes])
        for _ in range(rng.randint(1, 3)):
            change(header, rng)
        raw = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + whole[8 + header_bytes :])
        yield path


def other_tensors(path: Path, listing: Listing) -> Iterator[Path]:
    """Well-formed files with one to three tensors of another name, type or shape, and other texts as metadata."""
    for seed in range(NUM_FILES):
        rng = random.Random(seed)
        tensors, metadata = dict(listing), dict(METADATA)
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(list(tensors))
            dtype, shape = tensors.pop(name) if rng.random() < 0.5 else tensors[name]
            tensors[rng.choice([name, rng.choice(NAMES)])] = (
                rng.choice([dtype, "I8", "F8_E4M3"]),
                rng.choice([shape, (), (1,), (0, 3), (1, 1, 1, 1, 1, 1), shape[::-1]]),
            )
        metadata[rng.choice(list(metadata))] = rng.choice([value for value in VALUES if isinstance(value, str)])
        yield write_model(path, tensors, metadata)


def change(header: dict[str, Any], rng: random.Random) -> None:
    value = rng.choice(VALUES)
    key = rng.choice([rng.choice(list(header)), "__metadata__"])
    entry = header.get(key)
    kind = rng.randrange(5)
    if kind == 0 or not isinstance(entry, dict) or not entry:
        header[key] = value
    elif kind == 1 and key in header:
        header[rng.choice(NAMES)] = header.pop(key)
    else:
        field = rng.choice(list(entry))
        if kind == 2 and isinstance(entry[field], list) and entry[field]:
            entry[field][rng.randrange(len(entry[field]))] = value
        else:
            entry[field] = value


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", CHECKS)
@pytest.mark.parametrize("files", [changed_headers, other_tensors])
def test_safetensors_fields_of_any_type(
    tmp_path: Path, files: Callable[[Path, Listing], Iterator[Path]], kind: str
) -> None:
    listing, check = CHECKS[kind]
    counts = outcomes(check, files(tmp_path / "a.safetensors", listing))
    assert min(counts["refused"], counts["read"]) > 5 or counts["read"] == NUM_FILES


@pytest.mark.parametrize("shape", [[10**3999] * 60, [2**62] * 40_000], ids=["long numbers", "many numbers"])
def test_sizes_are_bounded_before_they_are_multiplied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: list[int]
) -> None:
    products: list[object] = []
    multiply = math.prod

    def counted(factors: Iterable[int]) -> int:
        products.append(factors)
        return multiply(list(factors)[:9])

    monkeypatch.setattr(math, "prod", counted)
    path = tmp_path / "a.safetensors"
    raw = json.dumps({"a": {"dtype": "U8", "shape": shape, "data_offsets": [0, 1]}}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"0")
    with pytest.raises(FileRefused, match=r"the header of a\.safetensors is damaged or of another format"):
        read_header(path)
    assert products == []


FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


def gguf_value(kind: int, rng: random.Random) -> bytes:
    """A value of one of GGUF's types, extreme ones included; what follows an unknown type is nothing."""
    if kind == TEXT:
        return gguf_text(rng.choice(["", "wan", "x" * 100_000, "two\nlines", DEEP, '{"layers": [3]}']))
    if kind == ARRAY:
        item, count = rng.choice([*FORMATS, TEXT, ARRAY, 13]), rng.choice([0, 1, 5, 3000])
        return struct.pack("<IQ", item, count) + b"".join(gguf_value(item, rng) for _ in range(min(count, 9)))
    form = FORMATS.get(kind)
    if form is None:
        return b""
    if form in "fd":
        return struct.pack("<" + form, rng.choice([0.0, 0.5, -1.0, 32.0, math.nan, math.inf]))
    size = 8 * struct.calcsize(form)
    whole = [0, 1, 32] if form.isupper() or form == "?" else [0, 1, 32, -1]
    return struct.pack("<" + form, rng.choice([*whole, 2 ** (size - 1) - 1]))


def changed_pairs(path: Path) -> Iterator[Path]:
    """GGUF files with one or two key-value pairs of a random type."""
    keys = ["general.architecture", "general.alignment", "title", "_quantization_metadata", "config"]
    keys += ["comfy.gguf.orig_shape.patch_embedding.weight", "comfy.gguf.orig_shape.head.modulation"]
    for seed in range(NUM_FILES):
        rng = random.Random(seed)
        pairs = []
        for _ in range(rng.randint(1, 2)):
            kind = rng.choice([*FORMATS, TEXT, ARRAY, ARRAY, 13])
            pairs.append(gguf_text(rng.choice(keys)) + struct.pack("<I", kind) + gguf_value(kind, rng))
        yield write_gguf(path, EXPERT, pairs=pairs)


def changed_infos(path: Path) -> Iterator[Path]:
    """GGUF files in which a count, or a field of a tensor's description, is zero, one or far too large."""
    whole = write_gguf(path, EXPERT).read_bytes()
    for seed in range(NUM_FILES):
        rng = random.Random(seed)
        content = bytearray(whole)
        name = gguf_text(rng.choice(list(EXPERT)))
        fields = whole.index(name) + len(name)
        place = rng.choice([4, 8, 16, *(fields + step for step in (-len(name), 0, 4, 12, 20, 24))])
        content[place : place + 8] = struct.pack("<Q", rng.choice([0, 1, 8, 9, 2**31, 2**32, 2**62, 2**63, 2**64 - 1]))
        path.write_bytes(content)
        yield path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("files", [changed_pairs, changed_infos])
def test_gguf_fields_of_any_type(tmp_path: Path, files: Callable[[Path], Iterator[Path]]) -> None:
    counts = outcomes(check_model, files(tmp_path / "a.gguf"))
    assert counts["refused"] > NUM_FILES // 4
    assert counts["read"] > NUM_FILES // 10


def pair(key: str, kind: int, value: bytes) -> bytes:
    return gguf_text(key) + struct.pack("<I", kind) + value


def array(kind: int, form: str, *items: int) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + struct.pack(f"<{len(items)}{form}", *items)


ORIGINAL = "comfy.gguf.orig_shape.head.modulation"
WRONG_PAIRS = {
    "alignment is not a number": pair("general.alignment", 6, struct.pack("<f", math.nan)),
    "alignment is a fraction": pair("general.alignment", 6, struct.pack("<f", 32.0)),
    "alignment is true": pair("general.alignment", 7, b"\1"),
    "alignment is zero": pair("general.alignment", 4, struct.pack("<I", 0)),
    "alignment is negative": pair("general.alignment", 5, struct.pack("<i", -32)),
    "alignment is a text": pair("general.alignment", 8, gguf_text("32")),
    "original shape is a number": pair(ORIGINAL, 5, struct.pack("<i", 16)),
    "original shape is a text": pair(ORIGINAL, 8, gguf_text("1,2,8")),
    "original shape has other elements": pair(ORIGINAL, 9, array(5, "i", 1, 2, 9)),
    "original shape has negative sizes": pair(ORIGINAL, 9, array(5, "i", -1, -2, 8)),
    "original shape has fractions": pair(ORIGINAL, 9, struct.pack("<IQ3f", 6, 3, 1, 2, 8)),
}


@pytest.mark.parametrize("case", WRONG_PAIRS)
def test_wrong_gguf_values_are_refused(tmp_path: Path, case: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", EXPERT, pairs=[WRONG_PAIRS[case]])
    with pytest.raises(
        FileRefused, match=r"^Expected a GGUF file, but the header of a\.gguf is damaged or cut short\.$"
    ):
        read_gguf_header(path)


def test_right_gguf_values_are_used(tmp_path: Path) -> None:
    pairs = [pair("general.alignment", 4, struct.pack("<I", 64)), pair(ORIGINAL, 9, array(5, "i", 2, 8, 1))]
    plain = read_gguf_header(write_gguf(tmp_path / "a.gguf", EXPERT))
    header = read_gguf_header(write_gguf(tmp_path / "b.gguf", EXPERT, pairs=pairs))
    assert plain.tensors["head.modulation"].shape == (1, 2, 8)
    assert header.tensors["head.modulation"].shape == (2, 8, 1)
    assert min(info.begin for info in header.tensors.values()) % 64 == 0


def test_a_long_name_in_a_gguf_file_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", EXPERT | {"x" * 501: ("F16", (1,))})
    with pytest.raises(
        FileRefused, match=r"^Expected a GGUF file, but the header of a\.gguf is damaged or cut short\.$"
    ):
        read_gguf_header(path)


def test_a_long_architecture_is_cut(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", EXPERT, architecture="a" * 500)
    with pytest.raises(FileRefused) as refusal:
        read_gguf_header(path)
    shown = "'" + "a" * 78 + "…"
    assert str(refusal.value) == f"Expected a GGUF file of the architecture wan, but a.gguf is {shown}."
