"""When a LoRA on weights that do not fit the GPU costs time in every step, and the sentence that says so."""

_SIXTEEN_BITS = 1.9  # bytes a parameter; a file of fp8 weights has some layers in 16 bits
_GB = 1e9


def repatching_warning(slot: str, file: str, weight_bytes: int, num_parameters: int, memory_bytes: int) -> str | None:
    """The warning for an expert with a LoRA, or None; `memory_bytes` is what the GPU can hold of its weights.

    ComfyUI 0.30 streams the weights that do not fit, and adds the LoRA to each of them as it arrives: again in every
    step (comfy/model_patcher.py LowVramPatch). Weights that fit are patched once.
    """
    is_wide = weight_bytes >= _SIXTEEN_BITS * num_parameters
    if not is_wide or weight_bytes <= memory_bytes:
        return None
    return (
        f"{slot}: {file} has {weight_bytes / _GB:.1f} GB of 16-bit weights and about {memory_bytes / _GB:.1f} GB fit "
        "the GPU; ComfyUI streams the rest and applies the LoRA to it again in every step. The fp8 file, or a "
        "checkpoint that has the LoRA merged, is faster."
    )
