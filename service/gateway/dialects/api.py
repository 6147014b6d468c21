"""The project's own API, `/api/v1/videos`: the common JSON of seed 3 (`seeds/3-…`), and what that leaves open.

The seed gives the request's fields; addresses, answers and errors are defined here, and documented as OpenAPI.
"""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...contract.errors import JobError
from ...contract.failure import Failure
from ...contract.lora_request import MAX_LORAS, LoraRequest, Loras
from ...contract.progress import Expert
from ...contract.scalars import Flag, Prompt, Real, Text, Whole, lower_case
from ...contract.video_answer import ModelUse
from ...contract.video_request import WORKFLOW_IMAGES, FrameOrder, Interpolation, parse_request
from ...tasks.task import Task, Webhook
from ..body_fault import body_fault, in_words_of
from ..desk import Desk
from ..draft import Draft
from ..http import base_url, caller_of, json_object, read_body, submit_of
from ..picture_field import picture_field
from ..webhook_url import webhook_url

NAME = "api"
PREFIX = "/api/v1"
FPS = 16
RETENTION_S = 24 * 3600.0
WEBHOOK_PAUSES_S = (5.0, 30.0, 120.0, 600.0, 3600.0)
SHIFT = {"480p": 3.0, "720p": 5.0}
WORKFLOWS = {
    "i2v": {"4step": "wan22_i2v_4step", "reference": "wan22_i2v_reference", "5b": "wan22_ti2v_5b"},
    "t2v": {"4step": "wan22_t2v_4step", "5b": "wan22_ti2v_5b"},
}
# wan_i2v_A14B.py of the reference: sample_steps, sample_guide_scale, boundary
REFERENCE = {"steps": 40, "high_noise_cfg": 3.5, "low_noise_cfg": 3.5, "switch": "boundary", "boundary": 0.9}

Resolution = Annotated[Literal["480p", "720p"], BeforeValidator(lower_case)]
Aspect = Annotated[Literal["auto", "16:9", "9:16", "4:3", "3:4", "1:1"], BeforeValidator(lower_case)]

# In one piece: a reference in it would lead nowhere in the OpenAPI document.
LORAS_SCHEMA = {"type": "array", "maxItems": MAX_LORAS, "items": LoraRequest.model_json_schema()}


class VideoOrder(BaseModel):
    """What to make."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt = Field(description="what should happen in the video", examples=["she turns to the camera"])
    task_type: Literal["i2v", "t2v"] = Field("i2v", description="from a picture, or from words alone")
    image_url: Text | None = Field(None, description="start picture: http(s) URL, data URI or base64; i2v needs it")
    end_image_url: Text | None = Field(None, description="end picture, the same way; not with model 5b")
    negative_prompt: Prompt | None = Field(None, description="what should not; without effect with model 4step")
    duration: Real = Field(5, ge=0.5, le=10, description="seconds; the video has duration x 16 + 1 frames")
    resolution: Resolution = Field("720p", description="720p takes shift 5, 480p shift 3")
    aspect_ratio: Aspect = Field("auto", description="auto keeps the picture's own; 16:9 without a picture")
    model: Literal["4step", "reference", "5b"] = Field(
        "4step", description="the distilled pair; the base pair as the reference (40 steps, cfg 3.5); or TI2V-5B"
    )
    enable_prompt_expansion: Flag = Field(False, description="a language model writes the prompt out")
    seed: Whole = Field(-1, ge=-1, le=2**53 - 1, description="-1 draws one; the answer carries the seed used")
    steps: Whole | None = Field(None, ge=1, le=50, description="sampling steps, in place of the model's own")
    cfg: Real | None = Field(None, ge=0, le=30, description="guidance scale, in place of the model's own")
    shift: Real | None = Field(None, ge=0, le=100, description="flow shift, in place of the resolution's own")
    loras: Annotated[Loras, WithJsonSchema(LORAS_SCHEMA)] | None = Field(
        None, description="up to 5 LoRAs: names on the worker's volume, or https URLs of hosts that the worker allows"
    )
    loop: Flag = Field(False, description="the video ends where it begins: a picture, and no end picture")
    interpolation: Annotated[Interpolation, BeforeValidator(lower_case)] = Field(
        "none", description="frames in between, at the same pace: by this network, or what the backend has in its place"
    )
    interpolation_factor: Whole = Field(2, ge=1, le=8, description="how many times the frames, and fps, with it")
    frame_order: Annotated[FrameOrder, BeforeValidator(lower_case)] = Field(
        "forward", description="reverse plays backwards, ping-pong there and back"
    )
    webhook_url: Text | None = Field(None, description="called with the video's object when it has ended")


class Problem(BaseModel):
    """Why there is no video."""

    code: str = Field(description="stable; the list is in the README")
    message: str
    field: str | None = None


class ErrorBody(BaseModel):
    error: Problem


class FileInfo(BaseModel):
    url: str | None = Field(description="works without a key until expires_at; null when the file is kept no longer")
    content_type: str
    size: int = Field(description="bytes")
    width: int
    height: int
    num_frames: int
    fps: float
    duration: float = Field(description="seconds")


class ProgressInfo(BaseModel):
    percent: float
    stage: str
    step: int | None = None
    steps: int | None = None
    expert: Expert | None = None
    seconds_left: float | None = None


class VideoTask(BaseModel):
    """A video, asked for or made. Times are ISO 8601."""

    id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = Field(None, description="when the file goes")
    queue_position: int | None = Field(None, description="tasks before it")
    progress: ProgressInfo | None = None
    video: FileInfo | None = None
    seed: int = Field(description="the seed used")
    prompt: str = Field(description="the prompt as it was asked for")
    expanded_prompt: str | None = Field(None, description="the prompt that was used in its place")
    settings: dict[str, Any] | None = Field(None, description="the values that were used")
    models: list[ModelUse] | None = Field(None, description="the model files, in the order of use")
    timings: dict[str, float | None] | None = Field(None, description="seconds")
    warnings: list[str] = Field(description="a sentence for all that was changed or ignored")
    error: Problem | None = None
    logs: list[str] = []


class VideoList(BaseModel):
    videos: list[VideoTask]
    next_offset: int | None = Field(description="of the next page, if there is one")


SETTINGS: tuple[str, ...] = ("workflow", "steps", "switch", "switch_step", "boundary", "sampler", "scheduler", "shift")
SETTINGS += ("high_noise_cfg", "low_noise_cfg", "sizing", "fit", "interpolation", "interpolation_factor")
SETTINGS += ("frame_order", "loop")


FIELDS = {"image_base64": "image_url", "end_image_base64": "end_image_url"}


def parse(body: dict[str, Any]) -> Draft:
    """Raises JobError."""
    try:
        order = VideoOrder.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        if error.errors()[0]["type"] == "extra_forbidden":
            sentence = f"a field is not known; known are {', '.join(VideoOrder.model_fields)}"
            raise JobError("UNKNOWN_FIELD", sentence) from None
        raise body_fault(error, VideoOrder) from None
    if order.task_type not in WORKFLOWS or order.model not in WORKFLOWS[order.task_type]:
        models = ", ".join(WORKFLOWS[order.task_type])
        raise JobError("INVALID_VALUE", f"model must be one of {models} for task_type {order.task_type}", "model")
    workflow = WORKFLOWS[order.task_type][order.model]
    _check_pictures(order, workflow)
    fields: dict[str, Any] = {
        "workflow": workflow,
        "prompt": order.prompt,
        "negative_prompt": order.negative_prompt,
        "resolution": order.resolution,
        "aspect_ratio": order.aspect_ratio,
        "length": round(order.duration * FPS) + 1,
        "fps": FPS,
        "shift": order.shift if order.shift is not None else SHIFT[order.resolution],
        "seed": order.seed,
        "steps": order.steps,
        "cfg": order.cfg,
        "loras": order.loras,
        "loop": order.loop or None,
        "frame_order": order.frame_order if order.frame_order != "forward" else None,
    }
    interpolation = {"interpolation", "interpolation_factor"} & order.model_fields_set
    fields |= {name: getattr(order, name) for name in interpolation}
    if order.model == "reference":
        fields |= {name: value for name, value in REFERENCE.items() if name != "steps" or order.steps is None}
        if order.cfg is not None:
            fields |= {"high_noise_cfg": order.cfg, "low_noise_cfg": order.cfg, "cfg": None}
    fields |= picture_field("image", order.image_url) | picture_field("end_image", order.end_image_url)
    request, warnings = parse_request(fields)
    return Draft(
        request,
        model=order.model,
        warnings=tuple(warnings),
        is_expansion_wanted=order.enable_prompt_expansion,
        webhook=Webhook(url=webhook_url(order.webhook_url, "webhook_url")) if order.webhook_url else None,
        retention_s=RETENTION_S,
        extras={"prompt": order.prompt},
    )


def _check_pictures(order: VideoOrder, workflow: str) -> None:
    """Raises JobError."""
    sent = next((name for name in ("image_url", "end_image_url") if getattr(order, name)), None)
    if order.task_type == "t2v" and sent:
        raise JobError("CONFLICT", f"task_type t2v takes no picture, and {sent} was sent", "task_type")
    takes_end = WORKFLOW_IMAGES[workflow] == "one"
    if order.task_type == "i2v" and not (order.image_url or (takes_end and sent)):
        raise JobError("MISSING_FIELD", "image_url is needed", "image_url")
    if order.end_image_url and not takes_end:
        sentence = f"model {order.model} takes no end picture, and end_image_url was sent"
        raise JobError("CONFLICT", sentence, "end_image_url")


def render(task: Task, video_url: str | None) -> dict[str, Any]:
    """The task's object. `video_url` is the link to its file, None before it is there and after it went."""
    answer, failure = task.outcome.answer, task.outcome.failure
    shown = VideoTask(
        id=task.id,
        status="queued" if task.state == "throttled" else task.state,
        created_at=_iso(task.created_at_s) or "",
        started_at=_iso(task.started_at_s),
        finished_at=_iso(task.finished_at_s),
        expires_at=_iso(task.expires_at_s) if answer else None,
        queue_position=task.queue_position,
        progress=_progress(task),
        video=_file(task, video_url),
        seed=answer.seed if answer else task.order.request["seed"],
        prompt=task.order.extras.get("prompt", ""),
        expanded_prompt=task.order.expanded_prompt,
        settings={name: getattr(answer, name) for name in SETTINGS} if answer else None,
        models=answer.models if answer else None,
        timings=answer.timings.model_dump(exclude_none=True) if answer else None,
        warnings=list(task.warnings),
        error=_problem(failure) if failure else None,
        logs=[line.text for line in task.log],
    )
    return shown.model_dump(mode="json")


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    return failure.http_status, ErrorBody(error=_problem(failure)).model_dump(mode="json")


async def webhook(task: Task, desk: Desk) -> tuple[bytes, dict[str, str]]:
    """The video's object, as GET shows it. It is not signed: a receiver that must be sure asks for the video."""
    return json.dumps(render(task, desk.video_url(task))).encode(), {}


def _problem(failure: Failure) -> Problem:
    failure = in_words_of(failure, FIELDS)
    return Problem(code=failure.code, message=failure.sentence, field=failure.field)


def _progress(task: Task) -> ProgressInfo | None:
    if task.state == "succeeded":
        return ProgressInfo(percent=100, stage="done")
    if task.progress is None:
        return ProgressInfo(percent=0, stage="waiting") if not task.is_final else None
    said = task.progress.to_wire()
    percent = min(99.0, round(100 * said.pop("progress", 0), 1))  # decoding and saving come after the last step
    return ProgressInfo(percent=percent, **{name: said[name] for name in said if name in ProgressInfo.model_fields})


def _file(task: Task, video_url: str | None) -> FileInfo | None:
    answer, video = task.outcome.answer, task.outcome.video
    if answer is None or video is None:
        return None
    return FileInfo(
        url=video_url,
        content_type=answer.format,
        size=video.size,
        width=answer.width,
        height=answer.height,
        num_frames=answer.length,
        fps=answer.fps,
        duration=answer.duration,
    )


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "a field is wrong",
        401: "no key, or none that is known",
        404: "no such video",
        413: "the body is too large",
        422: "a picture is wrong",
        429: "too much for this key; Retry-After says when to come again",
        503: "the queue or the store does not answer",
        507: "the store is full",
    }.items()
}
EXAMPLE = {"prompt": "she turns to the camera", "image_url": "https://example.com/photo.jpg", "resolution": "480p"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": VideoOrder.model_json_schema(), "example": EXAMPLE}},
    }
}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    def shown(task: Task, request: Request) -> dict[str, Any]:
        return render(task, desk.video_url(task, base_url(request)))

    @router.post("/videos", status_code=202, response_model=VideoTask, openapi_extra=BODY, summary="Ask for a video")
    async def create(request: Request) -> Response:
        caller = caller_of(request, desk)
        body = await read_body(request)
        task = await desk.submit(NAME, parse(json_object(body)), caller, submit_of(request, body))
        location = f"{desk.links.base(base_url(request))}{PREFIX}/videos/{task.id}"
        return JSONResponse(shown(task, request), 202, {"Location": location})

    @router.get("/videos", response_model=VideoList, summary="The newest videos of this key")
    async def listed(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        caller = caller_of(request, desk)
        tasks = await desk.page(caller, NAME, limit + 1, offset)
        more = len(tasks) > limit
        videos = [shown(task, request) for task in tasks[:limit]]
        return JSONResponse({"videos": videos, "next_offset": offset + limit if more else None})

    @router.get("/videos/{video_id}", response_model=VideoTask, summary="A video as it stands")
    async def one(request: Request, video_id: str) -> Response:
        return JSONResponse(shown(await desk.get(video_id, caller_of(request, desk)), request))

    @router.delete("/videos/{video_id}", status_code=204, summary="Cancel it, or delete it with its file")
    async def delete(request: Request, video_id: str) -> Response:
        caller = caller_of(request, desk)
        task = await desk.get(video_id, caller)
        if task.is_final:
            await desk.delete(video_id, caller)
        else:
            await desk.cancel(video_id, caller)
        return Response(status_code=204)

    @router.get(
        "/videos/{video_id}/events",
        summary="The video's object after each change, as server-sent events, to its end",
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        response_class=Response,
    )
    async def events(request: Request, video_id: str) -> Response:
        task = await desk.get(video_id, caller_of(request, desk))

        async def stream() -> AsyncIterator[str]:
            async for news in desk.follow(task.id):
                yield f"event: {news.state}\ndata: {json.dumps(shown(news, request))}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return router
