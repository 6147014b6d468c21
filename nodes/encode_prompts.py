"""Node: both prompts -> conditioning, without loading the text encoder for prompts that it has seen."""

import json
from typing import Any

from comfy_api.latest import io

from .engine.files.model_files import maps_files, state_of, text_encoder_file, text_encoder_files
from .engine.prompts.prompt_cache import PromptCache
from .engine.prompts.prompt_encoding import check_prompt, encode_prompts
from .rules.errors import WanRelayError
from .rules.files.safetensors_header import read_header
from .rules.files.text_encoder_file import check_text_encoder, is_safetensors
from .rules.long_video.lora_tags import tags_as_words


class EncodePrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_EncodePrompts",
            display_name="Wan Relay: Encode Prompts",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            description=(
                "Both prompts through Wan's text encoder. Embeddings are kept on disk: for a prompt that was used "
                "before, the encoder is neither read nor loaded, even after a restart."
            ),
            search_aliases=["clip text encode", "umt5", "text encoder", "load clip", "prompt", "negative prompt"],
            inputs=[
                io.Combo.Input(
                    "text_encoder",
                    options=text_encoder_files(),
                    tooltip=(
                        "UMT5-XXL, such as umt5_xxl_fp8_e4m3fn_scaled.safetensors in models/text_encoders. A GGUF file "
                        "is read by CLIPLoader (GGUF) of ComfyUI-GGUF instead."
                    ),
                ),
                io.String.Input(
                    "prompt", multiline=True, dynamic_prompts=True, default="", tooltip="What the video should show."
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="What it should not show. Without effect at cfg 1; may be empty.",
                ),
                io.Combo.Input(
                    "type", options=["wan"], default="wan", advanced=True, tooltip="The model family of the encoder."
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The encoded prompt."),
                io.Conditioning.Output("negative", tooltip="The encoded negative prompt."),
            ],
        )

    @classmethod
    def validate_inputs(cls, text_encoder: str | None = None) -> bool | str:
        if text_encoder is None:  # linked, so not known yet
            return True
        try:
            path = text_encoder_file("text_encoder", text_encoder)
            if is_safetensors(path):
                check_text_encoder(read_header(path, maps_files()))
        except WanRelayError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, text_encoder: str | None = None, **others: Any) -> str:
        if text_encoder not in text_encoder_files():
            return json.dumps(text_encoder)
        return json.dumps(state_of(text_encoder_file("text_encoder", text_encoder)))

    @classmethod
    def execute(cls, text_encoder: str, prompt: str, negative_prompt: str, type: str = "wan") -> io.NodeOutput:
        path = text_encoder_file("text_encoder", text_encoder)
        warnings: list[str] = []
        for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            check_prompt(name, text)
            warnings += tags_as_words(name, text)
        (positive, negative), cached = encode_prompts(path, [prompt, negative_prompt], PromptCache.from_environment())
        return io.NodeOutput(positive, negative, ui={"wan_relay": [{"cached": cached, "warnings": warnings}]})
