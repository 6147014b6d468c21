"""Normalised attention guidance (NAG): a negative prompt that works at cfg 1, in the cross-attention alone.

Where ComfyUI's cfg runs the whole network a second time, NAG lets each cross-attention look at the negative prompt too
and moves its output away from what it finds there (Chen et al., arXiv 2505.21179, and the authors' code):

    guided = scale * positive - (scale - 1) * negative         of the attention's outputs, before its last layer
    guided = guided * min(ratio, tau) / ratio                  ratio = |guided| / |positive|, L1 over the channels
    output = alpha * guided + (1 - alpha) * positive

Nothing of it is kept on the network, whose modules every clone of a model shares. The clone carries object patches,
which ComfyUI puts on while that clone is loaded, and one wrapper, which starts a `NagRun` for each run.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import comfy.ldm.modules.attention
import comfy.patcher_extension
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ...rules.errors import InvalidInput
from ..files.model_kind import kind_name, model_kind

KEY = "wan_relay_nag"
POSITIVE = 0  # in ComfyUI's cond_or_uncond, which has one value a chunk of the batch


class NagSettings(NamedTuple):
    """context: the negative prompt as the text encoder gives it, (batch, tokens, text channels). Below end_sigma NAG
    is off."""

    context: torch.Tensor
    scale: float
    alpha: float
    tau: float
    end_sigma: float


class NagEvaluation(NamedTuple):
    """One call of a network: its cross-attentions (each GPU has a network of its own), the negative prompt embedded for
    it, (batch, tokens, channels), and the chunks of the batch that are guided, out of how many."""

    modules: list[Any]
    settings: NagSettings
    negative: torch.Tensor | None
    chunks: list[int]
    num_chunks: int


def guide_attention(
    positive: torch.Tensor, negative: torch.Tensor, scale: float, alpha: float, tau: float
) -> torch.Tensor:
    """The formula above, for outputs of shape (batch, tokens, channels). Writes over `negative`, to need no more memory
    than one more attention does."""
    guided = negative.mul_(1 - scale).add_(positive, alpha=scale)
    before, after = (
        torch.linalg.vector_norm(z, 1, dim=-1, keepdim=True, dtype=torch.float32) for z in (positive, guided)
    )
    shrink = (tau * before / after.clamp_min(torch.finfo(torch.float32).tiny)).clamp_max(1.0)
    return guided.mul_((alpha * shrink).to(guided.dtype)).add_(positive, alpha=1 - alpha)


class GuidedCrossAttention:
    """What stands in for the `forward` of one block's cross-attention while the clone that has NAG is loaded."""

    def __init__(self, block: int, module: Any):
        self.block, self.module = block, module

    def __call__(
        self, x: torch.Tensor, context: torch.Tensor, transformer_options: dict | None = None, **options: Any
    ) -> torch.Tensor:
        """As WanT2VCrossAttention.forward: x is (batch, tokens, channels), context (batch, text tokens, channels)."""
        transformer_options = transformer_options or {}
        evaluation: NagEvaluation | None = transformer_options.get(KEY)
        module = self.module if evaluation is None else evaluation.modules[self.block]
        if evaluation is None or evaluation.negative is None:
            forward = type(module).forward
            output: torch.Tensor = forward(module, x, context, transformer_options=transformer_options, **options)
            return output

        def attend(q: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            k, v = (
                comfy.utils.repeat_to_batch_size(each, q.shape[0])
                for each in (module.norm_k(module.k(context)), module.v(context))
            )
            attention = comfy.ldm.modules.attention.optimized_attention
            z: torch.Tensor = attention(q, k, v, heads=module.num_heads, transformer_options=transformer_options)
            return z

        q = module.norm_q(module.q(x))
        z, q = (each.chunk(evaluation.num_chunks) for each in (attend(q, context), q))
        _, scale, alpha, tau, _ = evaluation.settings
        guided = [
            guide_attention(z[chunk], attend(q[chunk], evaluation.negative), scale, alpha, tau)
            if chunk in evaluation.chunks
            else z[chunk]
            for chunk in range(evaluation.num_chunks)
        ]
        output = module.o(torch.cat(guided) if len(guided) > 1 else guided[0])
        return output


class NagRun:
    """NAG in one run of one guider: on in evaluations at cfg 1 and at or above end_sigma.

    The negative prompt is embedded at the first of them, by the network's own text embedding, once a device.
    """

    def __init__(self, settings: NagSettings):
        self.settings = settings
        self.is_on = False
        self.embedded: dict[torch.device, torch.Tensor] = {}

    def predict_noise(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, *args: Any, **options: Any
    ) -> torch.Tensor:
        """The wrapper around an evaluation: its guider knows the cfg."""
        at_cfg_1 = math.isclose(executor.class_obj.cfg, 1.0)
        self.is_on = at_cfg_1 and float(timestep.max()) >= self.settings.end_sigma
        denoised: torch.Tensor = executor(x, timestep, *args, **options)
        return denoised

    def forward(
        self,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        clip_fea: Any = None,
        time_dim_concat: Any = None,
        transformer_options: dict | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """The wrapper around the network's forward: tells its cross-attentions what to do in this call."""
        network, transformer_options = executor.class_obj, {} if transformer_options is None else transformer_options
        kinds = transformer_options.get("cond_or_uncond", [])
        chunks = [chunk for chunk, kind in enumerate(kinds) if kind == POSITIVE] if self.is_on else []
        negative = self._embed(network, context) if chunks else None
        modules = [block.cross_attn for block in network.blocks]
        transformer_options[KEY] = NagEvaluation(modules, self.settings, negative, chunks, len(kinds))
        output: torch.Tensor = executor(x, timestep, context, clip_fea, time_dim_concat, transformer_options, **options)
        return output

    def _embed(self, network: Any, context: torch.Tensor) -> torch.Tensor:
        if context.device not in self.embedded:
            self.embedded[context.device] = network.text_embedding(self.settings.context.to(context))
        return self.embedded[context.device]


def _start_run(executor: Any, *args: Any, **options: Any) -> torch.Tensor:
    """The wrapper around a whole run. It adds the others last, so that what else changes the cfg of an evaluation
    (CFG Override) does so around them."""
    guider = executor.class_obj
    run = NagRun(guider.model_patcher.get_attachment(KEY))
    for kind, wrapper in ((WrappersMP.PREDICT_NOISE, run.predict_noise), (WrappersMP.DIFFUSION_MODEL, run.forward)):
        comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
    samples: torch.Tensor = executor(*args, **options)
    return samples


def apply_nag(
    model: Any, negative: list, scale: float, alpha: float, tau: float, end_sigma: float, slot: str
) -> tuple[Any, list[str]]:
    """A clone of `model` with NAG away from ComfyUI conditioning `negative`, and warnings; `model` itself for a scale
    of 1 and below, which guides nowhere. slot: the input's name, for sentences.

    Raises InvalidInput for a model whose cross-attention is not Wan2.2's.
    """
    modules = [getattr(block, "cross_attn", None) for block in getattr(model.model.diffusion_model, "blocks", ())]
    if not modules or not all(map(_is_wan, modules)):
        raise InvalidInput(f"{slot} must be a Wan2.2 model, and this one is {kind_name(model_kind(model))}.")
    if scale <= 1:
        return model, []
    warnings = []
    if len(negative) > 1:
        warnings.append(f"negative holds {len(negative)} prompts; NAG uses the first, over the whole run.")
    clone = model.clone()
    for block, module in enumerate(modules):
        name = f"diffusion_model.blocks.{block}.cross_attn.forward"
        if block == 0 and not isinstance(model.object_patches.get(name), GuidedCrossAttention | None):
            warnings.append(f"Another node has patched the cross-attention of {slot}; Apply NAG takes its place.")
        clone.add_object_patch(name, GuidedCrossAttention(block, module))
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _start_run)
    clone.set_attachments(KEY, NagSettings(negative[0][0], scale, alpha, tau, end_sigma))
    return clone, warnings


def _is_wan(attention: Any) -> bool:
    return all(hasattr(attention, name) for name in ("q", "k", "v", "o", "norm_q")) and not hasattr(attention, "k_img")


def nag_scale(model: Any, cfg: float) -> float:
    """The scale of the NAG that acts on a MODEL at that cfg; 0 for none."""
    settings = model.get_attachment(KEY)
    return settings.scale if isinstance(settings, NagSettings) and math.isclose(cfg, 1.0) else 0.0


def nag_warnings(model: Any, cfg: float, name: str) -> list[str]:
    """Sentences about NAG that does nothing on the leg `name`: ours above cfg 1, ComfyUI's on any Wan model."""
    warnings = []
    if isinstance(model.get_attachment(KEY), NagSettings) and not nag_scale(model, cfg):
        warnings.append(f"NAG acts at cfg 1 only: it is off for {name}, whose cfg is {cfg:g}.")
    patches = model.model_options.get("transformer_options", {}).get("patches", {}).get("attn1_output_patch", [])
    if any(getattr(patch, "__qualname__", "").startswith("NAGuidance.") for patch in patches):
        warnings.append(
            f"ComfyUI's NAGuidance on {name} has no effect on Wan and doubles the time at cfg 1: take it away, and use "
            "Wan Relay: Apply NAG."
        )
    return warnings
