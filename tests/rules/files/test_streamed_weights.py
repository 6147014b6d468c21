"""Which experts with a LoRA are patched again in every step, with the sizes of the real files."""

import pytest
from wan_relay.nodes.rules.files.streamed_weights import repatching_warning

A14B = 14_288_901_184
FP16, FP8, MIXED = 28_577_802_368, 14_294_742_832, 14_528_641_504
GB = 1_000_000_000


@pytest.mark.parametrize(
    ("weight_bytes", "memory_bytes", "warns"),
    [
        (FP16, 20 * GB, True),
        (FP16, FP16 - 1, True),
        (2 * FP16, 40 * GB, True),
        (FP16, FP16, False),
        (FP16, 70 * GB, False),
        (FP8, 10 * GB, False),
        (MIXED, 10 * GB, False),
    ],
)
def test_wide_weights_that_do_not_fit(weight_bytes: int, memory_bytes: int, warns: bool) -> None:
    assert (repatching_warning("high_noise", "a", weight_bytes, A14B, memory_bytes) is not None) == warns


def test_the_sentence() -> None:
    assert repatching_warning("low_noise", "wan_low_fp16.safetensors", FP16, A14B, 20 * GB) == (
        "low_noise: wan_low_fp16.safetensors has 28.6 GB of 16-bit weights and about 20.0 GB fit the GPU; ComfyUI "
        "streams the rest and applies the LoRA to it again in every step. The fp8 file, or a checkpoint that has the "
        "LoRA merged, is faster."
    )
