"""What a client may send: one declaration that validates, documents and rejects.

The worker checks types and ranges. Sizes, frame counts and the expert switch are computed by the nodes,
and come back resolved with the result. A field that was not sent keeps the workflow's own value; the
defaults written here are those of `wan22_i2v_4step`.
"""

import difflib
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from .errors import JobError
from .lora_request import Loras
from .public_text import MAX_SENTENCE, public_text
from .scalars import FilePath, Flag, Name, Prompt, Real, Text, Whole, lower_case, prompt_text
from .seeds import MAX_SEED, MAX_VIDEOS, Seeds, drawn, seeds_to_use
from .segment_request import MAX_LENGTH, Segments, without_loras

MAX_UNKNOWN_SHOWN = 10

WorkflowName = Literal[
    "wan22_i2v_4step",
    "wan22_i2v_4step_lora",
    "wan22_i2v_4step_motion",
    "wan22_i2v_long",
    "wan22_i2v_smooth",
    "wan22_i2v_reference",
    "wan22_flf2v_4step",
    "wan22_t2v_4step",
    "wan22_ti2v_5b",
]
# Which images a workflow lives on: an I2V pair takes a start image, an end image or both.
WORKFLOW_IMAGES: dict[str, Literal["one", "both", "none", "optional"]] = {
    "wan22_i2v_4step": "one",
    "wan22_i2v_4step_lora": "one",
    "wan22_i2v_4step_motion": "one",
    "wan22_i2v_long": "one",
    "wan22_i2v_smooth": "one",
    "wan22_i2v_reference": "one",
    "wan22_flf2v_4step": "both",
    "wan22_t2v_4step": "none",
    "wan22_ti2v_5b": "optional",
}
LONG_WORKFLOW, LONG_LENGTH, LONG_SEGMENT_LENGTH = "wan22_i2v_long", 161, 81  # the values that it has itself
# Those that make the frames larger, and others in between, without being asked.
UPSCALED_AND_INTERPOLATED = ("wan22_i2v_smooth",)
Container = Literal["mp4 h264", "mp4 h265", "mp4 av1", "webm vp9", "webm av1"]
Interpolation = Literal["none", "film", "rife"]
FrameOrder = Literal["forward", "reverse", "ping-pong"]
ColourReference = Literal["clip before", "first frame"]
EncoderPreset = Literal["fast", "balanced", "small"]


class VideoRequest(BaseModel):
    """One video, or a series of seeds. Unknown fields are listed in the answer's warnings (an error if `strict`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt = Field(description="what should happen in the video")
    negative_prompt: Prompt | None = Field(None, description="what should not; at cfg 1 with nag_scale only")
    image_base64: Text | None = Field(None, description="start image as base64 or data URI")
    image_url: Text | None = Field(None, description="start image as http(s) URL")
    image_path: FilePath | None = Field(None, description="start image on the network volume")
    end_image_base64: Text | None = Field(None, description="end image as base64 or data URI")
    end_image_url: Text | None = Field(None, description="end image as http(s) URL")
    end_image_path: FilePath | None = Field(None, description="end image on the network volume")

    width: Whole = Field(528, ge=64, le=2048, description="pixels, goes to the nearest multiple of 16 (5B: 32)")
    height: Whole = Field(768, ge=64, le=2048, description="pixels, goes to the nearest multiple of 16 (5B: 32)")
    length: Whole = Field(81, ge=5, le=257, description="frames, goes to the nearest 4n+1")
    fps: Whole = Field(16, ge=1, le=60, description="frames a second of the file; duration = length / fps")
    resolution: Annotated[Literal["480p", "720p"], BeforeValidator(lower_case)] | None = Field(
        None, description="in place of width and height; 720p is 1280x720 (5B: 1280x704) or another aspect of that area"
    )
    aspect_ratio: (
        Annotated[Literal["auto", "16:9", "9:16", "4:3", "3:4", "1:1"], BeforeValidator(lower_case)] | None
    ) = Field(None, description="with resolution; auto keeps the image's own")
    duration: Real | None = Field(None, ge=0.3, le=16, description="seconds, in place of length")
    sizing: Annotated[Literal["fixed", "match image"], BeforeValidator(lower_case)] = Field(
        "fixed", description="match image: width x height is the pixel budget, the aspect is the image's"
    )
    fit: Annotated[Literal["crop", "pad", "stretch"], BeforeValidator(lower_case)] = Field(
        "crop", description="how an image of another aspect is fitted"
    )

    steps: Whole = Field(4, ge=1, le=100, description="sampling steps over both experts")
    cfg: Real = Field(1.0, ge=0, le=30, description="guidance scale of both experts")
    high_noise_cfg: Real | None = Field(None, ge=0, le=30, description="cfg of the high-noise expert alone")
    low_noise_cfg: Real | None = Field(None, ge=0, le=30, description="cfg of the low-noise expert alone")
    opening_steps: Whole | None = Field(
        None, ge=0, le=50, description="first steps by the high-noise expert without its LoRA; 0 for none"
    )
    opening_cfg: Real | None = Field(None, ge=0, le=30, description="cfg of those steps; sent alone, of one step")
    nag_scale: Real | None = Field(
        None, ge=0, le=100, description="how far from negative_prompt at cfg 1 (NAG): 11 is usual; 0 is off"
    )
    sampler: Name = Field("euler", description="ComfyUI's sampler name, or flow_unipc, flow_dpm++")
    scheduler: Name = Field("simple", description="ComfyUI's, or official_unipc, official_dpm++")
    shift: Real = Field(5.0, ge=0, le=100, description="flow shift")
    switch: Annotated[Literal["boundary", "step"], BeforeValidator(lower_case)] = Field(
        "step", description="what hands over from the high-noise to the low-noise expert"
    )
    boundary: Real = Field(0.9, ge=0, le=1, description="noise level of the hand-over, when switch is boundary")
    switch_step: Whole = Field(2, ge=0, le=100, description="first low-noise step, when switch is step")
    seed: Whole = Field(-1, ge=-1, le=MAX_SEED, description="-1 or null draws one; the answer carries the seed used")
    seeds: Seeds | None = Field(None, description="a video for each of these seeds, -1 draws one: see Several videos")
    num_videos: Whole | None = Field(
        None, ge=1, le=MAX_VIDEOS, description="so many videos: with seed and the seeds after it, or with drawn ones"
    )
    loras: Loras | None = Field(
        None,
        description="up to 5 objects `{high, low, high_strength, low_strength}`: names in the volume's loras folder "
        "or https URLs, one or both; strengths from -20 to 20, 1 if left out",
    )

    segments: Segments | None = Field(
        None,
        description="up to 20 objects `{prompt, length, seed}` in place of prompt and length: each goes on from the "
        "last frame of the one before; length is 81 and seed the one before plus 1 if left out",
    )
    segment_length: Whole | None = Field(
        None, ge=5, le=MAX_LENGTH, description="makes length in segments of at most so many frames; 81 is usual"
    )
    colour_reference: Annotated[ColourReference, BeforeValidator(lower_case)] = Field(
        "clip before",
        description="first frame: the video, and each segment, also ends with the brightness and contrast of the "
        "video's first frame, so that colours do not drift; for videos that stay in one place",
    )

    loop: Flag = Field(
        False, description="the video ends where it begins: the start image is the end image too, and is shown once"
    )
    upscale_factor: Real = Field(
        1.0, ge=1, le=4, description="width and height of the saved video times this, by an upscaling model"
    )
    upscale_model: FilePath | None = Field(
        None, description="its file in the worker's upscale_models folder; the operator's choice if left out"
    )
    interpolation: Annotated[Interpolation, BeforeValidator(lower_case)] = Field(
        "none", description="frames in between by this network; by FFmpeg's minterpolate where its file is not there"
    )
    interpolation_factor: Whole = Field(
        2, ge=1, le=8, description="pieces of each step between two frames; the video has factor x (length - 1) + 1"
    )
    slow_motion: Flag = Field(
        False, description="fps stays what it is, so that interpolation makes the video longer; else fps x factor"
    )
    frame_order: Annotated[FrameOrder, BeforeValidator(lower_case)] = Field(
        "forward", description="reverse plays backwards, ping-pong there and back, each end shown once"
    )

    format: Annotated[Container, BeforeValidator(lower_case)] = Field("mp4 h264", description="container and codec")
    crf: Whole = Field(19, ge=0, le=63, description="quality, lower is better and larger")
    encoder_preset: Annotated[EncoderPreset, BeforeValidator(lower_case)] = Field(
        "balanced", description="how long the encoder searches: fast is soon and larger, small slow and smaller"
    )
    workflow: Annotated[WorkflowName, BeforeValidator(lower_case)] = Field(
        "wan22_i2v_4step", description="which bundled workflow runs"
    )
    return_last_frame: Flag = Field(
        False, description="the answer has the last frame as a PNG too, to go on from there"
    )
    delivery: Annotated[Literal["auto", "base64", "url"], BeforeValidator(lower_case)] = Field(
        "auto", description="auto: base64 if it fits, else the bucket; url: the bucket"
    )
    shrink: Flag = Field(True, description="re-encode once a video that is too large for the answer")
    strict: Flag = Field(False, description="unknown fields are errors")

    @model_validator(mode="after")
    def _fields_agree(self) -> "VideoRequest":
        self._prompt_says_something()
        self._one_form_of_each_image()
        self._images_suit_workflow()
        sent = self.model_fields_set
        for one, others in (("resolution", {"width", "height", "sizing"}), ("duration", {"length"})):
            both = sorted(others & sent)
            if one in sent and both:
                _conflict(f"{one} and {both[0]} exclude each other", one)
        self._segments_suit_the_rest()
        self._colours_have_a_reference()
        if "aspect_ratio" in sent and "resolution" not in sent:
            _conflict("aspect_ratio needs resolution beside it", "aspect_ratio")
        if {"boundary", "switch_step"} <= sent and "switch" not in sent:
            _conflict("boundary and switch_step exclude each other unless switch says which one counts", "switch")
        self._steps_after_decoding_agree()
        self._seeds_agree()
        return self

    def _steps_after_decoding_agree(self) -> None:
        sent = self.model_fields_set
        if self.workflow in UPSCALED_AND_INTERPOLATED:
            return
        for name in ("interpolation_factor", "slow_motion"):
            if name in sent and getattr(self, name) and "interpolation" not in sent:
                _conflict(f"{name} needs interpolation beside it", name)
        if self.upscale_model is not None and "upscale_factor" not in sent:
            _conflict("upscale_model needs upscale_factor beside it", "upscale_model")

    def _seeds_agree(self) -> None:
        count = self.num_videos
        if self.seeds is not None and "seed" in self.model_fields_set:
            _conflict("seed and seeds exclude each other", "seeds")
        if self.seeds is not None and count not in (None, len(self.seeds)):
            _conflict(f"num_videos is {count} and seeds has {len(self.seeds)}; one of them is enough", "num_videos")
        if count is not None and self.seed + count - 1 > MAX_SEED:
            _conflict(f"num_videos is {count} and only {MAX_SEED - self.seed} seeds come after seed", "num_videos")
        is_several = (count or len(self.seeds or ())) > 1
        if is_several and self.segments is not None and self.segments[0].seed is not None:
            name = "seeds" if self.seeds is not None else "num_videos"
            _conflict(f"{name} needs a first segment without a seed of its own: every video would be the same", name)

    def _prompt_says_something(self) -> None:
        if not self.prompt.strip():
            raise PydanticCustomError("MISSING_FIELD", "prompt must not be blank", {"field": "prompt"})

    def _one_form_of_each_image(self) -> None:
        for prefix in ("", "end_"):
            given = [name for name in image_fields(prefix) if getattr(self, name) is not None]
            if len(given) > 1:
                _conflict(f"give exactly one of {', '.join(image_fields(prefix))}; got {' and '.join(given)}", given[0])

    def _images_suit_workflow(self) -> None:
        start, end = self.start_image is not None, self.end_image is not None
        need = WORKFLOW_IMAGES[self.workflow]
        if self.loop:
            if need in ("none", "optional"):
                _conflict(f"loop needs a workflow that takes an end image, and {self.workflow} takes none", "loop")
            self._loop_has_a_start_image()
            return
        if need == "none" and (start or end):
            _conflict(f"workflow {self.workflow} takes no image", "workflow")
        if need == "optional" and self.end_image:
            name = self.end_image[0]
            _conflict(f"{name} needs a workflow that takes an end image, and {self.workflow} takes none", name)
        if need == "both" and not end:
            _missing("one of " + ", ".join(image_fields("end_")), "end_image")
        if (need == "both" and not start) or (need == "one" and not start and not end):
            _missing("one of " + ", ".join(image_fields("")), "image")
        if need == "one" and self.end_image and not start and self.has_several_segments:
            why = f", because {self.end_image[0]} is the last segment's alone"
            _missing("one of " + ", ".join(image_fields("")), "image", why)

    def _segments_suit_the_rest(self) -> None:
        field = "segments" if self.segments is not None else "segment_length"
        if self.segments is None and self.segment_length is None and self.workflow != LONG_WORKFLOW:
            return
        both = sorted({"length", "duration", "segment_length"} & self.model_fields_set)
        if self.segments is not None and both:
            _conflict(f"segments and {both[0]} exclude each other", "segments")
        if WORKFLOW_IMAGES[self.workflow] == "none":
            _conflict(f"{field} needs a workflow that takes a start image, and {self.workflow} takes none", field)

    def _colours_have_a_reference(self) -> None:
        if not self.is_brought_to_first_frame:
            return
        if WORKFLOW_IMAGES[self.workflow] == "none":
            sentence = f"colour_reference first frame needs a workflow that takes a start image, and {self.workflow} "
            _conflict(sentence + "takes none", "colour_reference")
        if self.end_image:
            sentence = f"colour_reference first frame and {self.end_image[0]} exclude each other: "
            _conflict(sentence + "the video ends with the colours of its end image", "colour_reference")

    def _loop_has_a_start_image(self) -> None:
        if self.end_image:
            _conflict(f"loop and {self.end_image[0]} exclude each other: a loop ends with its start image", "loop")
        if not self.start_image:
            _missing("one of " + ", ".join(image_fields("")), "image")

    def to_wire(self) -> dict[str, Any]:
        """What was sent, and nothing else: a field that was not keeps the workflow's own value."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def start_image(self) -> tuple[str, str] | None:
        """(field name, value) of the start image."""
        return self._image("")

    @property
    def is_upscaled(self) -> bool:
        return self.upscale_factor > 1

    @property
    def is_brought_to_first_frame(self) -> bool:
        return self.colour_reference == "first frame"

    @property
    def has_several_segments(self) -> bool:
        """Whether the video is made in more than one pass."""
        if self.segments is not None:
            return len(self.segments) > 1
        is_long = self.workflow == LONG_WORKFLOW
        if self.segment_length is None and not is_long:
            return False
        length = LONG_LENGTH if is_long and "length" not in self.model_fields_set else self.length
        if self.duration is not None:
            length = round(self.duration * self.fps) + 1
        return length > (self.segment_length or LONG_SEGMENT_LENGTH)

    @property
    def is_series(self) -> bool:
        """Whether several videos are asked for, be it a series of one."""
        return self.seeds is not None or self.num_videos is not None

    @property
    def first_seed(self) -> int:
        """Of a single video: the first segment's own, where it has one; -1 for one that is to be drawn."""
        own = self.segments[0].seed if self.segments is not None else None
        return self.seed if own is None else own

    def seeds_to_use(self) -> list[int]:
        """One for each video; drawn anew with each call."""
        return seeds_to_use(self.seed, self.seeds, self.num_videos)

    @property
    def is_interpolated(self) -> bool:
        return self.interpolation != "none" and self.interpolation_factor > 1

    @property
    def end_image(self) -> tuple[str, str] | None:
        """(field name, value) of the end image."""
        return self._image("end_")

    def _image(self, prefix: str) -> tuple[str, str] | None:
        return next(
            ((name, value) for name in image_fields(prefix) if (value := getattr(self, name)) is not None), None
        )


Request = TypeVar("Request", bound=VideoRequest)


def image_fields(prefix: str) -> tuple[str, str, str]:
    return (f"{prefix}image_base64", f"{prefix}image_url", f"{prefix}image_path")


def _conflict(sentence: str, field: str) -> None:
    raise PydanticCustomError("CONFLICT", sentence, {"field": field})  # type: ignore[arg-type]


def _missing(what: str, field: str, why: str = "") -> None:
    raise PydanticCustomError("MISSING_FIELD", f"{what} is needed{why}", {"field": field})  # type: ignore[arg-type]


def is_ping(raw: object) -> bool:
    """Raises JobError for an action that is not known."""
    if not isinstance(raw, dict):
        raise JobError("INVALID_INPUT", f"input must be an object, got {_json_type(raw)}", "input")
    action = raw.get("action")
    if action is None:
        return False
    if action != "ping":
        raise JobError("INVALID_VALUE", "action must be ping, or left out for a video", "action")
    return True


def parse_request(raw: dict[str, Any]) -> tuple[VideoRequest, list[str]]:
    """The validated request and the warnings about fields that were ignored. Raises JobError."""
    return parse_fields(raw, VideoRequest)


def parse_fields(raw: dict[str, Any], model: type[Request]) -> tuple[Request, list[str]]:
    """`parse_request` for one of its variants."""
    known = {name: raw[name] for name in model.model_fields if raw.get(name) is not None}
    for prefix in ("", "end_"):
        for name in image_fields(prefix):
            if known.get(name) == "":
                del known[name]
    if isinstance(known.get("prompt"), str) and not known["prompt"].strip():
        del known["prompt"]
    if "prompt" not in known and "segments" in known and (prompt := _first_prompt(known["segments"])):
        known["prompt"] = prompt
    fields = {*model.model_fields, "action"}
    unknown = [_shown(key) for key in islice((key for key in raw if key not in fields), MAX_UNKNOWN_SHOWN)]
    if unknown and known.get("strict") is True:
        raise JobError("UNKNOWN_FIELD", _unknown_field(unknown[0], "is not known"), unknown[0])
    try:
        request = model.model_validate(known)
    except ValidationError as error:
        raise _job_error(error) from None
    warnings = [_unknown_field(name, "is not known and was ignored") for name in unknown]
    more = len(raw) - sum(name in raw for name in fields) - len(unknown)
    if more:
        warnings.append(f"{more} more unknown fields were ignored")
    return request, warnings


def _first_prompt(segments: Any) -> str:
    """Of segments that may be anything yet: what is wrong with them is said by their own declaration.

    Empty where the first one has tags of LoRAs alone, which need a prompt beside the segments.
    """
    first = segments[0] if isinstance(segments, list) and segments else None
    try:
        prompt = prompt_text(first.get("prompt")) if isinstance(first, dict) else None
    except PydanticCustomError:
        prompt = None
    return without_loras(prompt) if isinstance(prompt, str) and prompt.strip() else "none"


def draw_seed(request: VideoRequest) -> int:
    """The seed to use; a drawn one stays exact in JavaScript."""
    return drawn(request.seed)


def _unknown_field(name: str, what: str) -> str:
    close = difflib.get_close_matches(name.lower(), list(VideoRequest.model_fields), n=1, cutoff=0.75)
    return f"field {name} {what}" + (f"; did you mean {close[0]}?" if close else "")


def _job_error(error: ValidationError) -> JobError:
    """The first fault, in the order of the declaration."""
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    field = str(first["loc"][0]) if first["loc"] else str(context.get("field", "input"))
    code, sentence = _fault(first, field)
    return JobError(code, sentence, field)


def _fault(error: ErrorDetails, field: str) -> tuple[str, str]:
    kind = error["type"]
    if kind == "missing":
        return "MISSING_FIELD", f"{field} is needed"
    if kind in ("greater_than_equal", "less_than_equal"):
        low, high = field_range(field)
        return "OUT_OF_RANGE", f"{field} must be from {low} to {high}, got {_shown(error['input'])}"
    if kind == "literal_error":
        return "INVALID_VALUE", f"{field} must be one of {error['ctx']['expected'].replace(chr(39), '')}"
    if kind == "string_too_long":
        return "INVALID_VALUE", f"{field} must be at most {error['ctx']['max_length']} characters"
    if kind == "INVALID_TYPE":
        return kind, f"{field} {error['msg']}, got {_json_type(error['input'])}"
    if kind in ("INVALID_VALUE", "PROMPT_TOO_LONG"):
        return kind, f"{field} {error['msg']}"
    if kind in ("CONFLICT", "MISSING_FIELD"):
        return kind, error["msg"]
    return "INVALID_VALUE", f"{field} has a value that cannot be used"


def field_range(field: str) -> tuple[Any, Any]:
    """The smallest and largest value that the declaration allows."""
    limits = VideoRequest.model_fields[field].metadata
    low = next((m.ge for m in limits if hasattr(m, "ge")), None)
    high = next((m.le for m in limits if hasattr(m, "le")), None)
    return low, high


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "something else")


def _shown(value: object) -> str:
    shown = public_text(str(value)[:MAX_SENTENCE]) if not isinstance(value, float) else f"{value:g}"
    return shown if len(shown) <= 40 else shown[:39] + "…"
