"""One small expert in every layout in which Wan2.2 files are shipped, and what the loaded network computes."""

import json
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from safetensors.torch import save_file
from wan_relay.toy import layout
from wan_relay.toy.initial_weights import fresh_weights
from wan_relay.toy.sizes import ExpertSize

SIZE = ExpertSize(in_dim=36, out_dim=16, dim=64, ffn_dim=128, num_layers=2, num_heads=4, text_dim=32)
METADATA = {"config": json.dumps({"transformer": {"text_dim": SIZE.text_dim, "num_heads": SIZE.num_heads}})}
WEIGHTS = fresh_weights(layout.expert(SIZE), seed=1)
BLOCK_LINEARS = [n for n, w in WEIGHTS.items() if n.startswith("blocks.") and n.endswith(".weight") and w.ndim == 2]
Tensors = dict[str, torch.Tensor]


def write_expert(path: Path, tensors: Tensors | None = None, prefix: str = "", **metadata: str) -> Path:
    """Write a file; without `tensors` the plain fp16 expert. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {prefix + name: tensor for name, tensor in (fp16(WEIGHTS) if tensors is None else tensors).items()}
    save_file(named, path, metadata={**METADATA, **metadata})
    return path


def fp16(weights: Tensors) -> Tensors:
    return {name: weight.half() for name, weight in weights.items()}


def quantised(dtype: torch.dtype, scale: str = "weight_scale", per_row: bool = False, algorithm: str = "") -> Tensors:
    """The expert with the linear layers of its blocks in `dtype`, and the scales under the name `scale`.

    `algorithm` adds the `comfy_quant` tensor that names it.
    """
    tensors = fp16({name: weight for name, weight in WEIGHTS.items() if name not in BLOCK_LINEARS})
    for name in BLOCK_LINEARS:
        layer = name.removesuffix(".weight")
        largest = WEIGHTS[name].abs().amax(dim=1, keepdim=True) if per_row else WEIGHTS[name].abs().max()
        if dtype.is_floating_point:
            factor = largest / torch.finfo(dtype).max
            tensors[name] = (WEIGHTS[name] / factor).to(dtype)
        else:
            factor = largest / torch.iinfo(dtype).max
            tensors[name] = (WEIGHTS[name] / factor).round().to(dtype)
        tensors[f"{layer}.{scale}"] = factor.float()
        if algorithm:
            described = json.dumps({"format": algorithm}).encode()
            tensors[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(described), dtype=torch.uint8)
    return tensors


def quantisation_metadata(algorithm: str = "float8_e4m3fn") -> str:
    layers = {name.removesuffix(".weight"): {"format": algorithm} for name in BLOCK_LINEARS}
    return json.dumps({"format_version": "1.0", "layers": layers})


def predict(model: Any) -> torch.Tensor:
    """What the network of a MODEL computes for one fixed input, patches included."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, SIZE.in_dim, 2, 8, 8, generator=generator)
    text = torch.randn(1, 7, SIZE.text_dim, generator=generator)
    comfy.model_management.load_models_gpu([model])
    dtype = model.model.get_dtype_inference()
    with torch.no_grad():
        output = model.model.diffusion_model(latent.to(dtype), torch.tensor([700.0], dtype=dtype), text.to(dtype))
    comfy.model_management.unload_all_models()  # takes the patches out of the weights that all clones share
    return output.float()


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    return float((output - expected).norm() / expected.norm())
