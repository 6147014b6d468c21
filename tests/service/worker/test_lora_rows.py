"""Whose fault a LoRA that is not there is."""

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.lora_request import LoraRequest
from wan_relay.service.worker.lora_rows import blamed_on_request

LORAS = (LoraRequest(high="a.safetensors"), LoraRequest(high="b.safetensors", low="c.safetensors"))


@pytest.mark.parametrize(
    ("code", "sentence", "expected"),
    [
        (
            "MODEL_MISSING",
            "c.safetensors is not on this worker, where the closest name is C.safetensors (node LoRAs)",
            "FILE_NOT_FOUND: low in loras item 2: c.safetensors is not on this worker, "
            "where the closest name is C.safetensors (node LoRAs) (loras)",
        ),
        (
            "MODEL_MISSING",
            "bundled.safetensors is not on this worker (node LoRAs)",
            "MODEL_MISSING: bundled.safetensors is not on this worker (node LoRAs)",
        ),
        ("MODEL_REFUSED", "a.safetensors is not on this worker", "MODEL_REFUSED: a.safetensors is not on this worker"),
    ],
)
def test_a_missing_file_of_the_request_is_the_clients(code: str, sentence: str, expected: str) -> None:
    assert str(blamed_on_request(JobError(code, sentence), LORAS)) == expected
