"""The inputs of Replicate's Wan 2.2 models (providers.md 3.5), and what they become here.

What cannot be honoured is said in a warning: WARNED is the place to switch things on.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ...contract.failure import Failure
from ...contract.lora_request import MAX_STRENGTH
from ...contract.scalars import Flag, Prompt, Real, Text, Whole, lower_case
from ..lora_field import lora_file
from ..picture_field import picture_field

MAX_SEED = 2**53 - 1
OWNER = "wan-video"
INTERPOLATED_FPS = 30
_LOWER = BeforeValidator(lower_case)
Resolution = Annotated[Literal["480p", "720p"], _LOWER]
Aspect = Annotated[Literal["16:9", "9:16"], _LOWER]


class Common(BaseModel):
    model_config = ConfigDict(extra="ignore")

    prompt: Prompt = Field(description="Prompt for video generation")
    resolution: Resolution = Field("480p", description="Resolution of the video")
    seed: Whole | None = Field(None, ge=0, le=MAX_SEED, description="Random seed; leave blank for random")


class ImageToVideo(Common):
    """wan-2.2-i2v-a14b."""

    image: Text = Field(description="Input image to start from", json_schema_extra={"format": "uri"})
    num_frames: Whole = Field(81, ge=81, le=100, description="Number of video frames; 81 give the best results")
    frames_per_second: Whole = Field(16, ge=5, le=24, description="Frames per second")
    sample_steps: Whole = Field(30, ge=1, le=50, description="Number of generation steps")
    sample_shift: Real = Field(5.0, ge=1, le=20, description="Sample shift factor")
    go_fast: Flag = Field(False, description="Go fast: the distilled pair, in four steps")


class Fast(Common):
    """What the fast models have in common."""

    num_frames: Whole = Field(81, ge=81, le=121, description="Number of video frames; 81 give the best results")
    frames_per_second: Whole = Field(16, ge=5, le=30, description="Frames per second")
    interpolate_output: Flag = Field(False, description="Interpolate the video to 30 frames per second")
    go_fast: Flag = Field(True, description="Go fast")
    sample_shift: Real = Field(12.0, ge=1, le=20, description="Sample shift factor")
    disable_safety_checker: Flag = Field(False, description="Disable the safety checker")
    lora_weights_transformer: Text | None = Field(None, description="LoRA for the high-noise expert, by URL or name")
    lora_scale_transformer: Real = Field(1.0, ge=-MAX_STRENGTH, le=MAX_STRENGTH, description="Its scale")
    lora_weights_transformer_2: Text | None = Field(None, description="LoRA for the low-noise expert, by URL or name")
    lora_scale_transformer_2: Real = Field(1.0, ge=-MAX_STRENGTH, le=MAX_STRENGTH, description="Its scale")


class ImageToVideoFast(Fast):
    """wan-2.2-i2v-fast."""

    image: Text = Field(description="Input image to start from", json_schema_extra={"format": "uri"})
    last_image: Text | None = Field(None, description="Last image to end at", json_schema_extra={"format": "uri"})


class TextToVideoFast(Fast):
    """wan-2.2-t2v-fast."""

    aspect_ratio: Aspect = Field("16:9", description="Aspect ratio of the video")
    optimize_prompt: Flag = Field(False, description="Write the prompt out before use")


@dataclass(frozen=True)
class Model:
    """`versions` begin the ids that the provider has given the model's versions, as far as they are known."""

    name: str
    description: str
    input: type[Common]
    versions: tuple[str, ...] = ()

    @cached_property
    def version(self) -> str:
        """64 hexadecimal digits, as the provider's; another input gives another one."""
        declared = json.dumps([self.name, self.input.model_json_schema()], sort_keys=True)
        return hashlib.sha256(declared.encode()).hexdigest()

    def is_version(self, text: str) -> bool:
        return text == self.version or (len(text) == 64 and text.startswith(self.versions or ("-",)))


MODELS = {
    model.name: model
    for model in (
        Model("wan-2.2-i2v-a14b", "Image-to-video with the Wan 2.2 A14B base pair", ImageToVideo, ("9c49fe41",)),
        Model("wan-2.2-i2v-fast", "Image-to-video with a distilled Wan 2.2 pair", ImageToVideoFast, ("4eaf2b01",)),
        Model("wan-2.2-t2v-fast", "Text-to-video with a distilled Wan 2.2 pair", TextToVideoFast),
    )
}

# field -> whether it asks for what is not there, and what is said
_Asked = Callable[[Any], bool]
WARNED: dict[str, tuple[_Asked, str]] = {
    "disable_safety_checker": (
        lambda order: "disable_safety_checker" in order.model_fields_set and not order.disable_safety_checker,
        "disable_safety_checker: this gateway has no safety checker, and nothing was checked",
    ),
    "go_fast": (
        lambda order: isinstance(order, Fast) and not order.go_fast,
        "go_fast: this model has only the 4-step pair on this gateway",
    ),
}

# how a sentence names a LoRA of the one item that an input makes -> the input's field
LORA_FIELDS = {
    words.format(expert): f"lora_weights_transformer{ending}"
    for expert, ending in (("high", ""), ("low", "_2"))
    for words in ("{} in loras item 1", "loras item 1: {}")
}


def request_fields(order: Any) -> tuple[dict[str, Any], list[str]]:
    """VideoRequest's fields, and a sentence for each value that is not honoured. Raises JobError."""
    known = type(order).model_fields
    warnings = [sentence for field, (is_asked, sentence) in WARNED.items() if field in known and is_asked(order)]
    fields: dict[str, Any] = {
        "prompt": order.prompt,
        "seed": order.seed,
        "resolution": order.resolution,
        "aspect_ratio": getattr(order, "aspect_ratio", "auto"),
        "length": order.num_frames,
        "fps": order.frames_per_second,
        "shift": order.sample_shift,
        **picture_field("image", getattr(order, "image", None)),
        **picture_field("end_image", getattr(order, "last_image", None)),
    }
    if isinstance(order, Fast) and (loras := _loras(order)):
        fields["loras"] = [loras]
    if isinstance(order, Fast) and order.interpolate_output:
        interpolation, said = _interpolation(order.frames_per_second)
        fields, warnings = fields | interpolation, warnings + said
    if isinstance(order, TextToVideoFast):
        return fields | {"workflow": "wan22_t2v_4step"}, warnings
    if isinstance(order, Fast):
        return fields | {"workflow": "wan22_i2v_4step"}, warnings
    if not order.go_fast:
        return fields | {"workflow": "wan22_i2v_reference", "steps": order.sample_steps}, warnings
    if "sample_steps" in order.model_fields_set:
        warnings.append("sample_steps: without effect, since go_fast takes the 4-step pair")
    return fields | {"workflow": "wan22_i2v_4step"}, warnings


def _loras(order: Fast) -> dict[str, Any]:
    """The first transformer is the high-noise expert. Raises JobError."""
    loras: dict[str, Any] = {}
    for expert, ending in (("high", ""), ("low", "_2")):
        path = getattr(order, f"lora_weights_transformer{ending}")
        if path and path.strip():
            loras[expert] = lora_file(path, f"lora_weights_transformer{ending}")
            loras[f"{expert}_strength"] = getattr(order, f"lora_scale_transformer{ending}")
    return loras


def in_lora_words(failure: Failure) -> Failure:
    """A failure about `loras` with the input's own field in place of that."""
    for words, field in LORA_FIELDS.items():
        if failure.field == "loras" and words in failure.sentence:
            return failure.model_copy(update={"sentence": failure.sentence.replace(words, field), "field": field})
    return failure


def _interpolation(fps: int) -> tuple[dict[str, Any], list[str]]:
    """The fewest whole pieces of a step that come to 30 frames a second or more: 16 becomes 32, at the same pace."""
    factor = -(-INTERPOLATED_FPS // fps)
    if factor == 1:
        return {}, []
    said = f"interpolate_output: the video has {fps * factor} frames a second, {factor} times those that were generated"
    return {"interpolation": "film", "interpolation_factor": factor}, [said] if fps * factor != INTERPOLATED_FPS else []
