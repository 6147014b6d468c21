"""A request's LoRA pairs in a workflow: rows of an Apply LoRA Pair node, which is added where there is none."""

from collections.abc import Sequence
from typing import Any

from ..contract.errors import JobError
from ..contract.lora_request import LoraRequest, lora_files

LORAS = "WanRelay_ApplyLoraPair"
NODE_ID = "wan_relay_loras"


def add_loras(graph: dict[str, dict[str, Any]], sampler: str, loras: Sequence[LoraRequest]) -> None:
    """Put `loras` on the models of the node `sampler`, after those that the workflow has itself.

    Raises JobError for a low-noise LoRA where there is one model.
    """
    if not loras:
        return
    models = graph[sampler]["inputs"]
    if "low_noise" not in models and any(lora.low for lora in loras):
        raise JobError("CONFLICT", "loras must leave low out, because this workflow has one model", "loras")
    node = next((node for node in graph.values() if node["class_type"] == LORAS), None)
    used = int(node["inputs"].get("pairs", 1)) if node else 0
    if node is None:
        node = {"class_type": LORAS, "_meta": {"title": "LoRAs"}, "inputs": {}}
        for slot, name in enumerate(("high_noise", "low_noise")):
            if name in models:
                node["inputs"][name], models[name] = models[name], [NODE_ID, slot]
        graph[NODE_ID] = node
    node["inputs"]["pairs"] = str(used + len(loras))
    for row, lora in enumerate(loras, used + 1):
        values = {
            "high_noise_lora": lora.high or "none",
            "low_noise_lora": lora.low or "none",
            "high_noise_strength": lora.high_strength,
            "low_noise_strength": lora.low_strength,
        }
        node["inputs"] |= {name if row == 1 else f"pairs.{name}_{row}": value for name, value in values.items()}


def blamed_on_request(error: JobError, loras: Sequence[LoraRequest]) -> JobError:
    """`error`, but a missing file that the request itself names is the client's to mend, and no fault of the worker."""
    for where, file in lora_files(loras):
        if error.code == "MODEL_MISSING" and error.sentence.startswith(f"{file} is not on this worker"):
            return JobError("FILE_NOT_FOUND", f"{where}: {error.sentence}", "loras")
    return error
