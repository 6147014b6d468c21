"""Modelverse's video tasks, `/modelverse/v1/tasks/submit` and `/status`, as seed 5 (`seeds/5-…`) describes them.

The seed gives the bodies; the error envelope is that of the provider's page of error codes. What neither says is
decided here: without `resolution` it is 720P (`720p` is taken too), without `duration` 5 s.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...contract.errors import JobError
from ...contract.failure import Failure
from ...contract.scalars import Prompt, Text, Whole, trimmed
from ...contract.video_request import parse_request
from ...tasks.task import Task, TaskState
from ..body_fault import body_fault, in_words_of, unknown_fields, without_nulls
from ..desk import Desk
from ..draft import Draft
from ..http import base_url, caller_of, json_object, read_body, submit_of
from ..picture_field import picture_field
from ..refusal import Refusal

NAME = "modelverse"
PREFIX = "/modelverse/v1"
RETENTION_S = 24 * 3600.0
# the model's name -> the workflow with a picture; there is none without
MODELS = {"Wan-AI/Wan2.2-I2V": ("wan22_i2v_4step", "")}
DISTILLED = ("wan22_i2v_4step", "wan22_i2v_4step_lora", "wan22_flf2v_4step")
FPS = 16
FRAMES = {5: 81, 8: 129}
SHIFT = {"720P": 5.0, "480P": 3.0}
STATUS: dict[TaskState, str] = {
    "throttled": "Pending",
    "queued": "Pending",
    "running": "Running",
    "succeeded": "Success",
    "failed": "Failure",
    "cancelled": "Failure",
}
NAMES = {
    "prompt": "input.prompt",
    "negative_prompt": "input.negative_prompt",
    **dict.fromkeys(("image", "image_url", "image_base64"), "input.first_frame_url"),
    **dict.fromkeys(("end_image", "end_image_url", "end_image_base64"), "input.last_frame_url"),
    "length": "parameters.duration",
}
NO_NEGATIVE = "input.negative_prompt has no effect: the distilled model runs at cfg 1, without one"


def _upper_case(value: object) -> object:
    value = trimmed(value)
    return value.upper() if isinstance(value, str) else value


def _five_or_eight(value: int) -> int:
    if value not in FRAMES:
        raise PydanticCustomError("INVALID_VALUE", "must be 5 or 8")
    return value


class TaskInput(BaseModel):
    """Extra fields are ignored, and named in a warning."""

    model_config = ConfigDict(extra="ignore")

    first_frame_url: Text = Field(description="start picture: http(s) URL, or base64 with or without `data:`")
    last_frame_url: Text | None = Field(None, description="end picture, the same way")
    prompt: Prompt
    negative_prompt: Prompt | None = None


class TaskParameters(BaseModel):
    model_config = ConfigDict(extra="ignore")

    resolution: Annotated[Literal["720P", "480P"], BeforeValidator(_upper_case)] = "720P"
    duration: Annotated[Whole, AfterValidator(_five_or_eight)] = 5
    seed: Whole | None = Field(default=None, ge=0, le=2147483647)


class TaskOrder(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: Text
    input: TaskInput
    parameters: TaskParameters = Field(default_factory=TaskParameters)


def parse(body: dict[str, Any], models: Mapping[str, tuple[str, str]] = MODELS) -> Draft:
    """`models` are the names that are known, each with its workflows. Raises JobError."""
    sent = without_nulls(body)
    workflow = _workflow(sent, models)
    try:
        order = TaskOrder.model_validate(sent)
    except ValidationError as error:
        raise body_fault(error, TaskOrder) from None
    asked, chosen = order.input, order.parameters
    for name in ("prompt", "first_frame_url"):
        if not getattr(asked, name).strip():
            raise JobError("MISSING_FIELD", f"input.{name} must not be blank", f"input.{name}")
    request, _ = parse_request(
        {
            "workflow": workflow,
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "resolution": chosen.resolution,
            "aspect_ratio": "auto",
            "length": FRAMES[chosen.duration],
            "fps": FPS,
            "shift": SHIFT[chosen.resolution],
            "seed": chosen.seed,
            **picture_field("image", asked.first_frame_url),
            **picture_field("end_image", asked.last_frame_url),
        }
    )
    warnings = [
        *unknown_fields(sent, TaskOrder),
        *unknown_fields(sent["input"], TaskInput, "input."),
        *unknown_fields(sent.get("parameters", {}), TaskParameters, "parameters."),
        *([NO_NEGATIVE] if asked.negative_prompt and workflow in DISTILLED else []),
    ]
    extras = {"duration": chosen.duration}
    return Draft(request, model=order.model, warnings=tuple(warnings), retention_s=RETENTION_S, extras=extras)


def _workflow(sent: dict[str, Any], models: Mapping[str, tuple[str, str]]) -> str:
    """The model's. Looked at before the rest, which another model would have other fields for."""
    name = sent.get("model")
    known = " or ".join(models)
    if name is None:
        raise JobError("MISSING_FIELD", f"model is needed; it must be {known}", "model")
    if not isinstance(name, str) or name not in models:
        raise JobError("INVALID_VALUE", f"model must be {known}; others are not served here", "model")
    return models[name][0]


def render(task: Task, video_url: str | None, request_id: str) -> dict[str, Any]:
    """The answer of `/tasks/status`. `video_url` is None before the video is there and after it went."""
    output: dict[str, Any] = {"task_id": task.id, "task_status": STATUS[task.state]}
    warnings = list(task.warnings)
    if task.state == "succeeded":
        output["urls"] = [video_url] if video_url else []
        if not video_url:
            warnings.append("the video is kept no longer")
    output["submit_time"] = int(task.created_at_s)
    if task.finished_at_s is not None:
        output["finish_time"] = int(task.finished_at_s)
    if task.state in ("failed", "cancelled"):
        failure = task.outcome.failure or Failure(code="CANCELLED", sentence="the task was cancelled")
        output["error_message"] = str(in_words_of(failure, NAMES))
    if warnings:
        output["warnings"] = warnings
    return {"output": output, "usage": {"duration": task.order.extras["duration"]}, "request_id": request_id}


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    """The provider's envelope. What is no other code's is a wrong parameter (400), also an unknown address."""
    failure = in_words_of(failure, NAMES)
    status, kind, code = _error_code(failure)
    return status, {"error": {"message": failure.sentence, "type": kind, "code": code, "param": request_id}}


def _error_code(failure: Failure) -> tuple[int, str, str]:
    """HTTP status, `type` and `code` of the provider's list."""
    status = failure.http_status
    if status == 401:
        return 401, "invalid_request_error", "auth_error"
    if status == 429:
        return 429, "rate_limit_error", "rate_limit"
    if status == 504:
        return 504, "timeout", "gateway_timeout_error"
    if status >= 500:
        return 500, "internal_error", "internal_error"
    if failure.code == "PROMPT_TOO_LONG":
        return 400, "invalid_request_error", "tokens_too_long"
    if failure.field == "model":
        return 400, "invalid_request_error", "model_error"
    return 400, "invalid_request_error", "param_error"


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.post("/tasks/submit")
    async def submit(request: Request) -> Response:
        caller = caller_of(request, desk)
        body = await read_body(request)
        task = await desk.submit(NAME, parse(json_object(body), MODELS | desk.models), caller, submit_of(request, body))
        output: dict[str, Any] = {"task_id": task.id}
        if task.order.warnings:
            output["warnings"] = list(task.order.warnings)
        return JSONResponse({"output": output, "request_id": _request_id(request)})

    @router.get("/tasks/status")
    async def status(request: Request, task_id: str = "") -> Response:
        caller = caller_of(request, desk)
        if not task_id:
            raise Refusal("MISSING_FIELD", "task_id is needed in the query", "task_id")
        task = await desk.get_own(task_id, caller, NAME)
        return JSONResponse(render(task, desk.video_url(task, base_url(request)), _request_id(request)))

    return router


def _request_id(request: Request) -> str:
    found: str = request.scope.get("wan_relay_request_id", "")
    return found
