"""What ComfyUI counts evaluation by evaluation, brought to where a run is for the expert that joins it.

ComfyUI counts for one model that makes the whole run. Here a run's evaluations are counted once more, without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def replay_keyframes(conds: dict[str, list[dict]], sigmas: torch.Tensor, asked: Sequence[float]) -> None:
    """Puts every hook in `conds` (LoRAs whose strength changes over the steps) at the keyframe that now holds.

    conds: what ComfyUI's process_conds returns. sigmas: the whole schedule, (steps + 1,). asked: the sigmas that were
    evaluated so far, in order. The experts share the hooks, and process_conds begins their count anew for each expert.
    """
    hooks = (
        hook for entries in conds.values() for cond in entries if cond.get("hooks") for hook in cond["hooks"].hooks
    )
    for keyframes in {hook.hook_keyframe for hook in hooks}:
        anew = keyframes.clone()  # its own reset() would keep the sigma of the evaluation before
        for sigma in torch.tensor(asked):
            anew.prepare_current_keyframe(sigma, {"sample_sigmas": sigmas})
        vars(keyframes).update(vars(anew))


def replay_context_windows(model_options: dict[str, Any], sigmas: torch.Tensor, asked: Sequence[float]) -> None:
    """Tells an expert's context windows the step: evaluations inside a step use that of the last one at a step's start.

    model_options: the expert's. sigmas, asked: as in `replay_keyframes`.
    """
    set_step = getattr(model_options.get("context_handler"), "set_step", None)
    if set_step is not None:
        for sigma in torch.tensor(asked, device=sigmas.device):
            set_step(sigma[None], {"transformer_options": {"sample_sigmas": sigmas}})
