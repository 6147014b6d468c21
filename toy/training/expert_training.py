"""What all expert training shares: the real transformer class, batches of noised latents."""

import contextlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import comfy.ldm.wan.model
import comfy.model_management
import comfy.ops
import comfy.sd
import torch

from .. import captions as grammar
from ..family import text_encoder_config
from ..sizes import I2V

SHIFT = 5.0
BOUNDARY = 0.9
SMALLEST_SIGMA = 0.02
MAX_WORDS = 20
BATCH_TOKENS = 7000  # patches in a training batch: sixteen clips of 33 frames of 128x96
KNOWN_FRAMES = (("first", 0.86), ("both", 0.10), ("nothing", 0.04))


@dataclass
class Batch:
    """Latents [batch, 16, T, H, W] in the transformers' space and what the transformer is told about them."""

    latents: torch.Tensor
    condition: torch.Tensor  # [batch, 20, T, H, W]: mask and known latents
    words: torch.Tensor  # [batch, MAX_WORDS + 1, text_dim]
    word_bias: torch.Tensor  # [batch, 1, 1, MAX_WORDS + 1]


def build_expert(weights: dict[str, torch.Tensor]) -> comfy.ldm.wan.model.WanModel:
    """ComfyUI's own transformer with these weights, in float32."""
    names = ("in_dim", "out_dim", "dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "freq_dim")
    sizes = {name: getattr(I2V, name) for name in names}
    model = comfy.ldm.wan.model.WanModel(dtype=torch.float32, operations=comfy.ops.disable_weight_init, **sizes)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


@contextlib.contextmanager
def training_mode() -> Iterator[None]:
    """Use the differentiable rotary embedding, and attention that folds the padding words into one."""
    plain = comfy.ldm.wan.model.optimized_attention
    comfy.model_management.in_training = True
    comfy.ldm.wan.model.optimized_attention = _attention
    try:
        yield
    finally:
        comfy.model_management.in_training = False
        comfy.ldm.wan.model.optimized_attention = plain


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, transformer_options: dict, **_):
    """Written out: on a processor its backward pass is faster than the fused kernel's.

    Scores are float32: they reach 300 here, where bfloat16 counts in steps of two.
    """
    bias = transformer_options["word_bias"] if k.shape[1] == MAX_WORDS + 1 else None
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    with torch.autocast("cpu", enabled=False):
        scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        shares = scores.softmax(dim=-1)
    return (shares.to(v.dtype) @ v).transpose(1, 2).flatten(2)


def velocity(model, noisy: torch.Tensor, sigma: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The transformer's answer under `training_mode`; sigma [batch]."""
    inputs = torch.cat([noisy, batch.condition], dim=1)
    return model(inputs, sigma * 1000, batch.words, transformer_options={"word_bias": batch.word_bias})


def bfloat16_velocity(model, noisy: torch.Tensor, sigma: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The same from matrix products in bfloat16, as float32."""
    with torch.autocast("cpu", torch.bfloat16):
        return velocity(model, noisy, sigma, batch).float()


def noised(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """`sigma` [batch] of the way from `latents` to `noise`."""
    sigma = sigma.view(-1, 1, 1, 1, 1)
    return (1 - sigma) * latents + sigma * noise


def flow_matching_loss(model: torch.nn.Module, batch: Batch, sigma: torch.Tensor) -> torch.Tensor:
    """Squared error of the velocity at `sigma` [batch], weighted by sigma^2: that of the clean latents it implies."""
    noise = torch.randn_like(batch.latents)
    answer = bfloat16_velocity(model, noised(batch.latents, noise, sigma), sigma, batch)
    missed = (answer - (noise - batch.latents)) * sigma.view(-1, 1, 1, 1, 1)
    return missed.pow(2).mean()


def shifted(uniform: torch.Tensor, shift: float = SHIFT) -> torch.Tensor:
    """Schedule position (1 is pure noise) to sigma."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def draw_sigma(count: int, expert: str) -> torch.Tensor:
    """Sigmas on the side of "high" or "low", as a schedule of shift 5 visits them."""
    at_boundary = BOUNDARY / (SHIFT - (SHIFT - 1) * BOUNDARY)
    low, high = {"high": (at_boundary, 1.0), "low": (0.0, at_boundary)}[expert]
    return shifted(low + (high - low) * torch.rand(count)).clamp(min=SMALLEST_SIGMA)


@dataclass(frozen=True)
class Doubt:
    """How often a clip's caption is dropped, and how often it is that of some other clip, as on the web."""

    dropped: float = 0.1
    wrong: float = 0.0

    def sentence(self, caption: str, rng: random.Random) -> str:
        drawn = rng.random()
        if drawn < self.dropped:
            return ""
        return grammar.caption(rng.choice(grammar.MOVES), rng) if drawn < self.dropped + self.wrong else caption


class Captions:
    """Encodes sentences with the toy text encoder, through ComfyUI, once each."""

    def __init__(self, text_encoder: Path) -> None:
        options = {"umt5xxl_model_config": text_encoder_config(text_encoder)}
        self._clip = comfy.sd.load_clip([str(text_encoder)], clip_type=comfy.sd.CLIPType.WAN, model_options=options)
        self._cache: dict[str, torch.Tensor] = {}

    def encode(self, sentence: str) -> torch.Tensor:
        """Encoded words [words, text_dim], the padding cut off."""
        if sentence not in self._cache:
            tokens = self._clip.tokenize(sentence, min_length=1)  # the masked padding to 512 takes most of the time
            encoded = self._clip.encode_from_tokens_scheduled(tokens)[0][0][0].detach()
            self._cache[sentence] = encoded[encoded.abs().sum(dim=1) > 0].clone()
        return self._cache[sentence]

    def batch(self, sentences: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Words and attention bias of a Batch; the last word stands for all the padding up to 512."""
        words = torch.zeros(len(sentences), MAX_WORDS + 1, I2V.text_dim)
        bias = torch.full((len(sentences), 1, 1, MAX_WORDS + 1), -math.inf)
        for row, sentence in enumerate(sentences):
            encoded = self.encode(sentence)[:MAX_WORDS]
            words[row, : len(encoded)] = encoded
            bias[row, ..., : len(encoded)] = 0.0
            bias[row, ..., -1] = math.log(512 - len(encoded))
        return words, bias


class Bank:
    """All shards below a folder."""

    def __init__(self, folder: Path, captions: Captions) -> None:
        self._captions = captions
        self.shards: list[dict] = [torch.load(path) for path in sorted(folder.rglob("*.pt"))]

    def batch(self, tokens: int, rng: random.Random, doubt: Doubt) -> Batch:
        """About `tokens` patches' worth of clips of one size, from all its shards, randomly captioned."""
        shape = rng.choice(self.shards)["latents"].shape
        shards = [shard for shard in self.shards if shard["latents"].shape == shape]
        size = max(1, 4 * tokens // math.prod(shape[2:]))
        chosen = [(shard, rng.randrange(shape[0])) for shard in rng.choices(shards, k=size)]
        kinds, chances = zip(*KNOWN_FRAMES, strict=True)
        known = rng.choices(kinds, chances, k=size)
        sentences = [doubt.sentence(rng.choice(shard["captions"][row]), rng) for shard, row in chosen]
        return self.make_batch(chosen, known, sentences, shape[2])

    def make_batch(self, chosen: list[tuple[dict, int]], known: list[str], sentences: list[str], frames: int) -> Batch:
        """The first `frames` latent frames of these clips, each a shard and its row."""
        latents = torch.stack([shard["latents"][row][:, :frames] for shard, row in chosen]).float()
        condition = torch.zeros(len(chosen), 20, *latents.shape[2:])
        for index, ((shard, row), kind) in enumerate(zip(chosen, known, strict=True)):
            if kind == "nothing":
                continue
            whole = kind == "both" and frames == shard["both"].shape[2]
            condition[index, 4:] = shard["both" if whole else "first"][row][:, :frames].float()
            condition[index, :4, 0] = 1.0
            if whole:
                condition[index, 3, -1] = 1.0
        return Batch(latents, condition, *self._captions.batch(sentences))
