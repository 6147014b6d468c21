"""A MODEL with another shift: a clone of it, made once."""

from __future__ import annotations

from typing import Any

import comfy.utils

from .sigma_schedule import FlowSampling, sampling_with_shift

CLONES = "wan_relay_shifted"
MOST_CLONES = 4  # of a model, the last ones used; each holds a few lists and no weights


def with_shift(model: Any, shift: float) -> Any:
    """`model` itself for shift 0, else a clone (same weights) with that shift, as ModelSamplingSD3 makes it.

    The clone lives as long as the model and serves every run, as that of a node in the graph does. For one of each run
    ComfyUI pays dearly: where weights are streamed, the end of any clone takes the pinned memory of all, and a LoRA on
    a hook reads the file again for every clone.
    """
    if shift == 0:
        return model
    clones = vars(model).setdefault(CLONES, {})
    key = shift, model.patches_uuid
    clone = clones.pop(key, None) or _clone(model, shift)
    clone.model_options = comfy.utils.deepcopy_list_dict(model.model_options)
    clones[key] = clone
    while len(clones) > MOST_CLONES:
        del clones[next(iter(clones))]
    return clone


def sampling_of(model: Any, shift: float) -> FlowSampling:
    """The noise schedule of `with_shift(model, shift)`."""
    own = model.get_model_object("model_sampling")
    return own if shift == 0 else sampling_with_shift(shift, own)


def _clone(model: Any, shift: float) -> Any:
    clone = model.clone()
    clone.parent = model.parent  # not the model, which holds the clone: both would stay until Python looks for circles
    clone.add_object_patch("model_sampling", sampling_of(model, shift))
    return clone
