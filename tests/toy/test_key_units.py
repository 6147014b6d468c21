"""The committed experts' parts for ends and keyframes, looked at alone: silent in clips that have none."""

import pytest
import torch
from wan_relay.toy.family import base_expert
from wan_relay.toy.training.expert_fits import WAY_UNITS, random_inputs
from wan_relay.toy.training.expert_start import KEY_UNITS, MARK_CHANNEL, patch_lanes, skeleton, write_keyframes
from wan_relay.toy.training.expert_training import build_expert, training_mode
from wan_relay.toy.training.key_fits import PatchMap
from wan_relay.toy.training.lanes import BESIDE, KEY, KEY_CLOCKS, KNOWN, MASK, MASK_LEVEL, TURN

pytestmark = pytest.mark.comfy
FRAMES, ROWS, COLUMNS = 9, 6, 8


@pytest.fixture(scope="module")
def expert():
    return build_expert(base_expert("high"))


def after_block_0(expert, keys: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What block 0's feed-forward layer hears [tokens, units], and the stream after it [frames, ..., lanes]."""
    generator = torch.Generator().manual_seed(1)
    inputs = random_inputs("keyframes" if keys else "first", keys, FRAMES, ROWS, COLUMNS, generator)
    block = expert.blocks[0]
    with torch.no_grad(), training_mode():
        stream = expert.patch_embedding(inputs).flatten(2).transpose(1, 2)
        turns = expert.rope_encode(FRAMES, 2 * ROWS, 2 * COLUMNS, device="cpu", dtype=torch.float32)
        stream = stream + block.self_attn(block.norm1(stream), turns)
        heard = block.ffn[0](block.norm2(stream))
        stream = stream + block.ffn(block.norm2(stream))
    return heard[0], stream[0].view(FRAMES, ROWS, COLUMNS, -1)


def test_without_an_end_the_units_for_ends_are_silent(expert):
    way = slice(-KEY_UNITS - WAY_UNITS, -KEY_UNITS)
    assert after_block_0(expert, [])[0][:, way].max() < -10
    assert after_block_0(expert, [4])[0][:, way].max() > 0, "with one they speak"


def test_a_keyframe_becomes_a_known_frame_and_no_other_does(expert):
    for keys in ([], [8], [3, 8]):
        stream = after_block_0(expert, keys)[1]
        known = stream[..., MASK].mean(dim=(1, 2))
        wanted = torch.zeros(FRAMES)
        wanted[[0, *keys]] = MASK_LEVEL
        torch.testing.assert_close(known, wanted, atol=0.05, rtol=0)
        assert stream[..., [KEY, *KEY_CLOCKS]].abs().max() < 0.05, "read, and cleared: block 3 has never seen them"
        assert stream[..., TURN][[0, *keys]].abs().max() < 0.1, "a known frame looks at itself"


def test_what_is_written_down_is_what_the_committed_weights_hold():
    committed = base_expert("high")
    grey = -committed["patch_embedding.bias"][KNOWN : KNOWN + 16].float()
    for name, tensor in skeleton(grey, seed=1).items():
        if name.startswith(("patch_embedding", "blocks.0.self", "blocks.1.self", "blocks.2.self")):
            assert torch.equal(tensor.half(), committed[name]), name


def test_the_units_for_ends_are_written_as_the_committed_weights_hold_them():
    """The two fitted maps are read back from the weights; all else of these units is written down."""
    committed = base_expert("high")
    columns = committed["blocks.0.ffn.2.weight"][:, -KEY_UNITS:].float()
    picture, beside = (patch_lanes(lanes, range(MARK_CHANNEL)) for lanes in (KNOWN, BESIDE))
    count = len(picture)
    matrices, offsets = 2 * columns[:, : 2 * count : 2], MASK_LEVEL * columns[:, 2 * count]
    still = PatchMap(matrices[picture] + torch.eye(count), offsets[picture], 0.0)
    first = PatchMap(matrices[beside] + still.matrix, offsets[beside] + still.offset, 0.0)

    again = {name: torch.zeros(tensor.shape) for name, tensor in committed.items() if name.startswith("blocks.0.ffn")}
    write_keyframes(again, still, first)
    for name in ("blocks.0.ffn.0.weight", "blocks.0.ffn.0.bias"):
        assert torch.equal(again[name][-KEY_UNITS:].half(), committed[name][-KEY_UNITS:]), name
    torch.testing.assert_close(again["blocks.0.ffn.2.weight"][:, -KEY_UNITS:], columns, rtol=0, atol=1e-6)
