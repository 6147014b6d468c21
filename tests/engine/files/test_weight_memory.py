"""Sizes of real MODELs, and ComfyUI's streaming: what the warning about re-patched weights rests on."""

from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_patcher
import comfy.sd
import pytest
import torch
from wan_relay.nodes.engine.files.lora_patches import apply_lora, read_lora
from wan_relay.nodes.engine.files.weight_memory import memory_for_weights, size_of_weights
from wan_relay.nodes.rules.files.safetensors_header import read_header

pytestmark = pytest.mark.comfy
EXPERT, LORA = "toy_wan2.2_i2v_high_noise.safetensors", "toy_wan2.2_i2v_high_noise_4step_lora.safetensors"


@pytest.fixture(scope="module")
def model(toy_models: Path) -> Any:
    return comfy.sd.load_diffusion_model(str(toy_models / "diffusion_models" / EXPERT), {"dtype": torch.float16})


def test_a_cpu_streams_nothing() -> None:
    assert memory_for_weights(torch.device("cpu")) is None


def test_the_size_is_that_of_the_weights(model: Any, toy_models: Path) -> None:
    tensors = read_header(toy_models / "diffusion_models" / EXPERT).tensors.values()
    weight_bytes, num_parameters = size_of_weights(model)
    assert num_parameters == sum(torch.Size(info.shape).numel() for info in tensors)
    assert 2 * num_parameters <= weight_bytes < 2.1 * num_parameters


@pytest.mark.parametrize(("resident_bytes", "times"), [(1, 3), (1e12, 1)])
def test_a_streamed_weight_is_patched_again_in_every_step_and_one_that_fits_once(
    model: Any, toy_models: Path, monkeypatch: pytest.MonkeyPatch, resident_bytes: float, times: int
) -> None:
    patched, report, _ = apply_lora(model, read_lora(toy_models / "loras" / LORA), 1.0, "high_noise")
    calls: list[str] = []
    calculate = comfy.lora.calculate_weight

    def counted(patches: Any, weight: Any, key: str, **options: Any) -> Any:
        calls.append(key)
        return calculate(patches, weight, key, **options)

    monkeypatch.setattr(comfy.lora, "calculate_weight", counted)
    patched.load(torch.device("cpu"), lowvram_model_memory=resident_bytes)
    try:
        network = patched.model.diffusion_model
        inputs = torch.zeros(1, 36, 1, 4, 4, dtype=torch.float16)
        width = network.text_embedding[0].in_features
        with torch.no_grad():
            for _ in range(3):
                network(inputs, torch.tensor([500.0]), torch.zeros(1, 8, width, dtype=torch.float16))
    finally:
        patched.detach()
    assert len(calls) == times * report["layers"]
