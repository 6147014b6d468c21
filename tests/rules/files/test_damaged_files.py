"""Whatever the bytes of a file, a check gives facts or one refusal, and never another error."""

import math
import random
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import FileRefused
from wan_relay.nodes.rules.files.expert_files import check_pair
from wan_relay.nodes.rules.files.lora_files import check_lora_pair
from wan_relay.tests.tiny_models import Listing, expert_listing, write_gguf, write_model

NUM_DAMAGES = 200


def damaged(content: bytes, header_bytes: int, seed: int) -> bytes:
    """The file with one to four bytes of its header changed to another byte, a digit, a bracket or a quote."""
    rng = random.Random(seed)
    damage = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        damage[rng.randrange(header_bytes)] = rng.choice([rng.randrange(256), *b'0123456789[]{}",.-'])
    return bytes(damage)


@pytest.mark.parametrize("ending", ["safetensors", "gguf"])
def test_damaged_experts(tmp_path: Path, ending: str) -> None:
    path, partner = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    for place, seed in ((path, 1), (partner, 2)):
        if ending == "gguf":
            write_gguf(place, expert_listing(num_layers=1))
        else:
            metadata = {"_quantization_metadata": '{"layers": {"blocks.0.ffn.0": {}}}', "title": "x"}
            write_model(place, expert_listing(num_layers=1), metadata, seed)
    whole = path.read_bytes()
    header_bytes = len(whole) - num_bytes(expert_listing(num_layers=1))
    refusals = []
    for seed in range(NUM_DAMAGES):
        path.write_bytes(damaged(whole, header_bytes, seed))
        try:
            check_pair(path, partner)
        except FileRefused as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > NUM_DAMAGES // 3
    assert all(text.startswith(("high_noise: ", "low_noise: ")) and "\n" not in text for text in refusals)


def test_damaged_loras(tmp_path: Path) -> None:
    listing: Listing = {
        f"diffusion_model.blocks.0.{layer}.{part}": ("F16", shape)
        for layer in ("self_attn.q", "ffn.0")
        for part, shape in (("lora_down.weight", (2, 8)), ("lora_up.weight", (8, 2)), ("alpha", ()), ("diff", (8, 8)))
    }
    path, expert = tmp_path / "lora.safetensors", write_model(tmp_path / "a.safetensors", expert_listing(num_layers=1))
    whole = write_model(path, listing).read_bytes()
    counts, refusals = [], []
    for seed in range(NUM_DAMAGES):
        path.write_bytes(damaged(whole, len(whole) - num_bytes(listing), seed))
        try:
            report = check_lora_pair(path, None, expert)["high_noise"]
            counts.append(report["applied"] + report["harmless"] + report["unmatched"])
        except FileRefused as refusal:
            refusals.append(str(refusal))
    assert set(counts) <= {len(listing), len(listing) - 1}
    assert len(refusals) > NUM_DAMAGES // 3
    assert all(text.startswith("high_noise_lora: ") and "\n" not in text for text in refusals)


def num_bytes(listing: Listing) -> int:
    return sum(2 * math.prod(shape) for _, shape in listing.values())
