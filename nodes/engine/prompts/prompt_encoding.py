"""Prompts -> conditioning, through the prompt cache; the text encoder is loaded for unknown prompts only."""

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfyui_version
import folder_paths
import torch

from ...rules.errors import InvalidInput
from ...rules.files.safetensors_header import read_header
from ...rules.files.text_encoder_file import check_text_encoder, encoder_config, encoder_identity, is_safetensors
from ..files.model_files import maps_files
from .prompt_cache import Conditioning, PromptCache, cache_key

EMBEDDING_FILE = "embedding:"  # a prompt that names one depends on a second file, and is not kept


def check_prompt(name: str, text: str) -> None:
    """Raises InvalidInput for a text that has no UTF-8 form: half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} must be text, but its character {error.start + 1} is half of a surrogate pair "
            f"(U+{ord(text[error.start]):04X})."
        ) from None


def load_text_encoder(path: Path) -> comfy.sd.CLIP:
    """The UMT5 encoder in `path`, as ComfyUI's CLIPLoader loads it with type wan."""
    model_options = {}
    if is_safetensors(path):
        header = read_header(path, maps_files())
        check_text_encoder(header)
        config = encoder_config(header)
        if config:
            model_options["umt5xxl_model_config"] = config
    return comfy.sd.load_clip(
        ckpt_paths=[str(path)],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=comfy.sd.CLIPType.WAN,
        model_options=model_options,
    )


def encode_prompts(path: Path, texts: list[str], cache: PromptCache) -> tuple[list[Conditioning], bool]:
    """What ComfyUI's CLIPTextEncode gives for each text, and whether the encoder stayed unread.

    Raises InvalidInput for a text that cannot be encoded, FileRefused for a file that is not Wan's encoder.
    """
    encoder = encoder_identity(path, maps_files())
    dtype = comfy.model_management.text_encoder_dtype(comfy.model_management.text_encoder_device())
    keys = {
        text: cache_key(encoder=encoder, text=text, comfyui=comfyui_version.__version__, dtype=str(dtype))
        for text in texts
    }
    found: dict[str, Conditioning] = {}
    for text, key in keys.items():
        kept = cache.read(key)
        if kept is not None:
            found[text] = _on_intermediate_device(kept)
    unknown = [text for text in keys if text not in found]
    if unknown:
        clip = load_text_encoder(path)
        for text in unknown:
            found[text] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
            if EMBEDDING_FILE not in text:
                cache.write(keys[text], found[text])
    return [found[text] for text in texts], not unknown


def _on_intermediate_device(conditioning: Conditioning) -> Conditioning:
    device = comfy.model_management.intermediate_device()

    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, torch.Tensor) else value

    return [[moved(cond), {key: moved(value) for key, value in extra.items()}] for cond, extra in conditioning]
