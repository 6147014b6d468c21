"""Node: both prompts -> conditioning, without loading the text encoder for prompts that it has seen."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from .engine.prompts.prompt_cache import PromptCache
from .engine.prompts.prompt_encoding import check_prompt, encode_prompts
from .rules.errors import InvalidInput, WanRelayError
from .rules.files.safetensors_header import read_header
from .rules.files.text_encoder_file import check_text_encoder, is_safetensors

FOLDER = "text_encoders"  # ComfyUI's name for text_encoders and clip together


def find_text_encoder(name: str) -> Path:
    """The path of a listed text encoder. Raises InvalidInput for any other name."""
    files = folder_paths.get_filename_list(FOLDER)
    if name not in files:
        listed = ", ".join(files) or "no file at all"
        raise InvalidInput(
            f"text_encoder must be a file in models/text_encoders or models/clip ({listed}), got {name}."
        )
    return Path(folder_paths.get_full_path_or_raise(FOLDER, name))


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
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip="UMT5-XXL, such as umt5_xxl_fp8_e4m3fn_scaled.safetensors in models/text_encoders.",
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
            path = find_text_encoder(text_encoder)
            if is_safetensors(path):
                check_text_encoder(read_header(path))
        except WanRelayError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, text_encoder: str, prompt: str, negative_prompt: str, type: str = "wan") -> io.NodeOutput:
        path = find_text_encoder(text_encoder)
        for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            check_prompt(name, text)
        (positive, negative), cached = encode_prompts(path, [prompt, negative_prompt], PromptCache.from_environment())
        return io.NodeOutput(positive, negative, ui={"wan_relay": [{"cached": cached, "warnings": []}]})
