"""The inputs of fal's Wan 2.2 A14B models (providers.md 2.7), and what they become here.

What cannot be honoured is said in a warning: WARNED is the place to switch things on.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ...contract.failure import Failure
from ...contract.scalars import Flag, Prompt, Real, Text, Whole, lower_case
from ..lora_field import lora_file
from ..picture_field import picture_field

MAX_SEED = 2**53 - 1
# 580p is no size of the reference's: 16:9 at 576 lines, and squares of as many pixels.
SIZES_580P = {"16:9": (1024, 576), "9:16": (576, 1024), "1:1": (768, 768)}
CRF = {"low": 28, "medium": 23, "high": 19, "maximum": 13}
SMALLER_CRF = 3
ACCELERATED = {"image": "wan22_i2v_4step", "text": "wan22_t2v_4step"}
UNACCELERATED = {"image": "wan22_i2v_reference"}
GUIDANCE = 3.5


_LOWER = BeforeValidator(lower_case)
Resolution = Annotated[Literal["480p", "580p", "720p"], _LOWER]
Acceleration = Annotated[Literal["none", "regular"], _LOWER]
Quality = Annotated[Literal["low", "medium", "high", "maximum"], _LOWER]
WriteMode = Annotated[Literal["fast", "balanced", "small"], _LOWER]
AspectOrAuto = Annotated[Literal["auto", "16:9", "9:16", "1:1"], _LOWER]
Aspect = Annotated[Literal["16:9", "9:16", "1:1"], _LOWER]
Interpolator = Annotated[Literal["none", "film", "rife"], _LOWER]
Transformer = Annotated[Literal["high", "low", "both"], _LOWER]


class Common(BaseModel):
    model_config = ConfigDict(extra="ignore")

    prompt: Prompt
    seed: Whole | None = Field(None, ge=0, le=MAX_SEED)
    resolution: Resolution = "720p"
    acceleration: Acceleration = "regular"
    enable_safety_checker: Flag = False
    enable_output_safety_checker: Flag = False
    enable_prompt_expansion: Flag = False
    video_quality: Quality = "high"
    video_write_mode: WriteMode = "balanced"


class FromImage(BaseModel):
    image_url: Text
    end_image_url: Text | None = None
    aspect_ratio: AspectOrAuto = "auto"


class FromText(BaseModel):
    aspect_ratio: Aspect = "16:9"


class Tuned(BaseModel):
    """`guidance_scale` is the high-noise stage's, `guidance_scale_2` the low-noise one's."""

    negative_prompt: Prompt = ""
    num_frames: Whole = Field(81, ge=17, le=161)
    frames_per_second: Whole = Field(16, ge=4, le=60)
    num_inference_steps: Whole = Field(27, ge=2, le=40)
    guidance_scale: Real = Field(GUIDANCE, ge=1, le=10)
    guidance_scale_2: Real = Field(GUIDANCE, ge=1, le=10)
    shift: Real = Field(5.0, ge=1, le=10)
    interpolator_model: Interpolator = "film"
    num_interpolated_frames: Whole = Field(1, ge=0, le=4)
    adjust_fps_for_interpolation: Flag = True


class Lora(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: Text
    scale: Real = 1.0
    transformer: Transformer = "high"
    weight_name: Text | None = None


class WithLoras(BaseModel):
    loras: list[Lora] = []
    reverse_video: Flag = False


class ImageToVideo(FromImage, Tuned, Common):
    pass


class ImageToVideoLora(WithLoras, ImageToVideo):
    pass


class ImageToVideoTurbo(FromImage, Common):
    pass


class TextToVideo(FromText, Tuned, Common):
    pass


class TextToVideoLora(WithLoras, TextToVideo):
    pass


class TextToVideoTurbo(FromText, Common):
    pass


@dataclass(frozen=True)
class Model:
    source: Literal["image", "text"]
    input: type[Common]


_FAMILY = "fal-ai/wan/v2.2-a14b"
MODELS = {
    f"{_FAMILY}/image-to-video": Model("image", ImageToVideo),
    f"{_FAMILY}/image-to-video/lora": Model("image", ImageToVideoLora),
    f"{_FAMILY}/image-to-video/turbo": Model("image", ImageToVideoTurbo),
    f"{_FAMILY}/text-to-video": Model("text", TextToVideo),
    f"{_FAMILY}/text-to-video/lora": Model("text", TextToVideoLora),
    f"{_FAMILY}/text-to-video/turbo": Model("text", TextToVideoTurbo),
}

# field -> whether it asks for what is not there, and what is said
_Asked = Callable[[Any], bool]
WARNED: dict[str, tuple[_Asked, str]] = {
    "enable_safety_checker": (
        lambda order: order.enable_safety_checker,
        "enable_safety_checker: this gateway has no safety checker, and nothing was checked",
    ),
    "enable_output_safety_checker": (
        lambda order: order.enable_output_safety_checker,
        "enable_output_safety_checker: this gateway has no safety checker, and nothing was checked",
    ),
}
NOT_FOR_FOUR_STEPS = ("num_inference_steps", "guidance_scale", "guidance_scale_2", "negative_prompt")


def request_fields(model: Model, order: Any) -> tuple[dict[str, Any], list[str]]:
    """VideoRequest's fields, and a sentence for each value that is not honoured. Raises JobError."""
    known = type(order).model_fields
    warnings = [sentence for field, (is_asked, sentence) in WARNED.items() if field in known and is_asked(order)]
    fields: dict[str, Any] = {
        "prompt": order.prompt,
        "seed": order.seed,
        "crf": CRF[order.video_quality] + (SMALLER_CRF if order.video_write_mode == "small" else 0),
        **_size(order),
    }
    if order.video_write_mode != "balanced":
        fields["encoder_preset"] = order.video_write_mode
    if isinstance(order, FromImage):
        fields |= picture_field("image", order.image_url) | picture_field("end_image", order.end_image_url)
    if isinstance(order, Tuned):
        fields |= {"length": order.num_frames, "fps": order.frames_per_second, "shift": order.shift}
        fields["negative_prompt"] = order.negative_prompt or None
        fields |= _interpolation(order)
    if isinstance(order, WithLoras):
        fields["loras"] = [_lora(lora) for lora in order.loras] or None
        fields["frame_order"] = "reverse" if order.reverse_video else None
    how, said = _sampling(model, order)
    return fields | how, warnings + said


def in_lora_words(failure: Failure) -> Failure:
    """A failure about `loras` with fal's `path` and `scale` in place of the two experts' files and strengths."""
    if failure.field != "loras":
        return failure
    sentence = re.sub(r"\b(?:high|low) in (?=loras item)", "path in ", failure.sentence)
    sentence = re.sub(r"(?<=loras item \d: )(?:high|low)_strength\b", "scale", sentence)
    sentence = re.sub(r"(?<=loras item \d: )(?:high|low)\b", "path", sentence)
    return failure.model_copy(update={"sentence": sentence})


def _lora(lora: Lora) -> dict[str, Any]:
    """Raises JobError."""
    experts = ("high", "low") if lora.transformer == "both" else (lora.transformer,)
    file = lora_file(lora.path, "loras", lora.weight_name)
    return {name: value for expert in experts for name, value in ((expert, file), (f"{expert}_strength", lora.scale))}


def _size(order: Any) -> dict[str, Any]:
    aspect = order.aspect_ratio
    if order.resolution != "580p":
        return {"resolution": order.resolution, "aspect_ratio": aspect}
    width, height = SIZES_580P["16:9" if aspect == "auto" else aspect]
    return {"width": width, "height": height, "sizing": "match image" if aspect == "auto" else "fixed"}


def _interpolation(order: Tuned) -> dict[str, Any]:
    """n frames between two cut each step into n + 1 pieces; fps follows, or the video becomes slow motion."""
    if order.interpolator_model == "none" or order.num_interpolated_frames == 0:
        return {}
    wanted = {"interpolation": order.interpolator_model, "interpolation_factor": order.num_interpolated_frames + 1}
    return wanted if order.adjust_fps_for_interpolation else wanted | {"slow_motion": True}


def _sampling(model: Model, order: Any) -> tuple[dict[str, Any], list[str]]:
    """The distilled pair in its four steps, or, unaccelerated, the base pair as the caller tunes it."""
    if order.acceleration == "none" and isinstance(order, Tuned) and model.source in UNACCELERATED:
        how = {
            "workflow": UNACCELERATED[model.source],
            "steps": order.num_inference_steps,
            "high_noise_cfg": order.guidance_scale,
            "low_noise_cfg": order.guidance_scale_2,
        }
        return how, []
    warnings = []
    ignored = [field for field in NOT_FOR_FOUR_STEPS if field in order.model_fields_set and getattr(order, field)]
    if ignored:
        other = "; acceleration none takes the base pair" if model.source in UNACCELERATED else ""
        warnings.append(
            f"{', '.join(ignored)}: without effect, since the 4-step pair renders at guidance 1 in 4 steps{other}"
        )
    if order.acceleration == "none":
        warnings.append(f"acceleration: this gateway has only the 4-step pair for videos from {model.source}")
    return {"workflow": ACCELERATED[model.source]}, warnings
