"""The OpenAI Videos API, `/openai/v1/videos`, and the fields that vLLM-Omni's and SGLang's clients add to it.

The contract is `providers.md` section 8. Fields come as a form or as JSON; a form's values are all text.
"""

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...contract.errors import JobError
from ...contract.failure import Failure
from ...contract.scalars import Flag, Name, Prompt, Real, Text, Whole
from ...contract.video_request import parse_request
from ...media.stills import spritesheet, thumbnail
from ...tasks.task import Task
from ..body_fault import body_fault, in_words_of, unknown_fields
from ..desk import Desk
from ..draft import Draft
from ..http import caller_of, json_object, read_body, submit_of
from ..picture_field import picture_field
from ..refusal import Refusal
from .openai_form import fields_of

NAME = "openai"
PREFIX = "/openai/v1"
RETENTION_S = 24 * 3600.0
FPS = 16
POLL_AFTER = {"openai-poll-after-ms": "1000"}
EXPOSED_HEADERS = tuple(POLL_AFTER)
MAX_LISTED = 10_000
STATES = {
    "throttled": "queued",
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "failed",
}
# model of the client -> workflow for a picture, workflow for words alone
MODELS = {
    "sora-2": ("wan22_i2v_4step", "wan22_t2v_4step"),
    "sora-2-pro": ("wan22_i2v_4step", "wan22_t2v_4step"),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": ("wan22_i2v_reference", ""),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": ("", "wan22_t2v_4step"),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": ("wan22_ti2v_5b", "wan22_ti2v_5b"),
}
DEFAULT_MODEL = "sora-2"
NOT_TAKEN = ("lora", "extra_params")  # vLLM-Omni's, which a video without them would not be the one asked for


def _flag_of_a_form(value: object) -> object:
    """A form has no true and false but as text."""
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


FormFlag = Annotated[Flag, BeforeValidator(_flag_of_a_form)]


class VideoForm(BaseModel):
    """What a client may send; the second half are vLLM-Omni's and SGLang's own. Extra fields are ignored, and named in
    a warning.
    """

    model_config = ConfigDict(extra="ignore")

    prompt: Prompt
    model: Name = DEFAULT_MODEL
    seconds: Whole = Field(4, ge=1, le=15)
    size: Name | None = None
    input_reference: Text | None = Field(None, description="a data URI or a URL, whichever way it came")

    width: Whole | None = Field(None, ge=64, le=2048)
    height: Whole | None = Field(None, ge=64, le=2048)
    num_frames: Whole | None = Field(None, ge=5, le=257)
    fps: Whole | None = Field(None, ge=1, le=60)
    num_inference_steps: Whole | None = Field(None, ge=1, le=100)
    guidance_scale: Real | None = Field(None, ge=0, le=30)
    guidance_scale_2: Real | None = Field(None, ge=0, le=30, description="of the high-noise stage")
    boundary_ratio: Real | None = Field(None, ge=0, le=1)
    flow_shift: Real | None = Field(None, ge=0, le=100)
    seed: Whole | None = Field(None, ge=0, le=2**53 - 1)
    negative_prompt: Prompt | None = None
    enable_frame_interpolation: FormFlag = False
    frame_interpolation_exp: Whole = Field(1, ge=1, le=3, description="doublings of the frames")


class Remix(BaseModel):
    """The body of a remix."""

    prompt: Prompt


def parse(body: dict[str, Any], models: dict[str, tuple[str, str]]) -> Draft:
    """`input_reference` is a text by now, see `fields_of`. Raises JobError."""
    sent = {name: value for name, value in body.items() if value is not None}
    try:
        form = VideoForm.model_validate({name: value for name, value in sent.items() if value != ""})
    except ValidationError as error:
        raise body_fault(error, VideoForm) from None
    workflow = _workflow(form, models)
    if refused := next((name for name in NOT_TAKEN if any(name == key.partition("[")[0] for key in sent)), None):
        raise JobError("INVALID_VALUE", f"{refused} is not taken here", refused)
    wire: dict[str, Any] = {
        "workflow": workflow,
        "prompt": form.prompt,
        "negative_prompt": form.negative_prompt,
        **_size(form),
        "fps": form.fps or FPS,
        "length": form.num_frames or form.seconds * (form.fps or FPS) + 1,
        "steps": form.num_inference_steps,
        "low_noise_cfg": form.guidance_scale,
        "high_noise_cfg": form.guidance_scale_2 if form.guidance_scale_2 is not None else form.guidance_scale,
        "shift": form.flow_shift,
        "seed": form.seed,
        **picture_field("image", form.input_reference),
    }
    if form.boundary_ratio is not None:
        wire |= {"switch": "boundary", "boundary": form.boundary_ratio}
    if form.enable_frame_interpolation:
        wire |= {"interpolation": "rife", "interpolation_factor": 2**form.frame_interpolation_exp}
    request, warnings = parse_request(wire)
    return Draft(
        request,
        model=form.model,
        warnings=(*unknown_fields(sent, VideoForm), *warnings),
        retention_s=RETENTION_S,
        extras={"prompt": form.prompt, "seconds": str(form.seconds)},
    )


def _workflow(form: VideoForm, models: dict[str, tuple[str, str]]) -> str:
    known = MODELS | models
    if form.model not in known:
        raise JobError("INVALID_VALUE", f"the model must be one of {', '.join(sorted(known))}", "model")
    with_picture, of_words = known[form.model]
    workflow = with_picture if form.input_reference else of_words
    if not workflow:
        needs = "needs an input_reference" if with_picture else "takes no input_reference"
        raise JobError("INVALID_VALUE", f"this model {needs}", "input_reference")
    return workflow


def _size(form: VideoForm) -> dict[str, Any]:
    if form.width and form.height:
        return {"width": form.width, "height": form.height}
    size = form.size or "720x1280"
    found = re.fullmatch(r"(\d{2,4})[x*](\d{2,4})", size)
    if not found or not all(64 <= int(side) <= 2048 for side in found.groups()):
        raise JobError(
            "INVALID_VALUE", "size must be WIDTHxHEIGHT with sides from 64 to 2048, such as 1280x720", "size"
        )
    return {"width": int(found[1]), "height": int(found[2])}


def render(task: Task) -> dict[str, Any]:
    """The video object; `warnings` is the one field that is the gateway's own."""
    answer, request = task.outcome.answer, task.order.request
    width, height = (answer.width, answer.height) if answer else (request.get("width"), request.get("height"))
    failure = task.outcome.failure
    if task.state == "cancelled":
        failure = Failure(code="CANCELLED", sentence="the video was cancelled")
    percent = round(100 * task.progress.progress) if task.progress and not task.is_final else 0
    return {
        "id": task.id,
        "object": "video",
        "model": task.order.model,
        "status": STATES[task.state],
        "progress": 100 if task.state == "succeeded" else percent,
        "created_at": int(task.created_at_s),
        "completed_at": int(task.finished_at_s) if task.finished_at_s else None,
        "expires_at": int(task.expires_at_s) if answer and task.expires_at_s else None,
        "size": f"{width}x{height}" if width else None,
        "seconds": task.order.extras.get("seconds", ""),
        "prompt": task.order.extras.get("prompt", ""),
        "remixed_from_video_id": task.order.extras.get("remixed_from"),
        "error": _error(failure) if failure else None,
        "warnings": list(task.warnings),
    }


def _error(failure: Failure) -> dict[str, Any]:
    return {"code": failure.code.lower(), "message": in_words_of(failure, FIELDS).sentence}


KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    status = 400 if failure.http_status == 422 else failure.http_status
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    failure = in_words_of(failure, FIELDS)
    code = failure.code.lower() if status != 401 else "invalid_api_key"
    return status, {"error": {"message": failure.sentence, "type": kind, "param": failure.field, "code": code}}


FIELDS = {"image_base64": "input_reference", "image_url": "input_reference", "image": "input_reference"}
FIELDS |= {"length": "seconds", "width": "size", "height": "size", "interpolation_factor": "frame_interpolation_exp"}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/videos")

    @router.post("")
    async def create(request: Request) -> Response:
        caller = caller_of(request, desk)
        fields, body = await fields_of(request)
        task = await desk.submit(NAME, parse(fields, desk.models), caller, submit_of(request, body))
        return JSONResponse(render(task), headers=POLL_AFTER)

    @router.get("")
    async def listed(request: Request) -> Response:
        caller = caller_of(request, desk)
        query = request.query_params
        wanted = query.get("limit", "")
        limit = min(max(int(wanted), 1), 100) if re.fullmatch(r"[0-9]{1,9}", wanted) else 20
        is_first_page = "after" not in query and query.get("order") != "asc"
        tasks = await desk.page(caller, NAME, limit + 1 if is_first_page else MAX_LISTED)
        if query.get("order") == "asc":
            tasks.reverse()
        ids = [task.id for task in tasks]
        start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        shown = [render(task) for task in tasks[start : start + limit]]
        return JSONResponse(
            {
                "object": "list",
                "data": shown,
                "first_id": shown[0]["id"] if shown else None,
                "last_id": shown[-1]["id"] if shown else None,
                "has_more": start + len(shown) < len(tasks),
            }
        )

    @router.get("/{video_id}")
    async def one(request: Request, video_id: str) -> Response:
        return JSONResponse(render(await desk.get_own(video_id, caller_of(request, desk), NAME)), headers=POLL_AFTER)

    @router.delete("/{video_id}")
    async def delete(request: Request, video_id: str) -> Response:
        caller = caller_of(request, desk)
        await desk.get_own(video_id, caller, NAME)
        await desk.delete(video_id, caller)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    @router.get("/{video_id}/content")
    async def content(request: Request, video_id: str) -> Response:
        task = await desk.get_own(video_id, caller_of(request, desk), NAME)
        variant = request.query_params.get("variant", "video")
        if variant not in ("video", "thumbnail", "spritesheet"):
            raise Refusal("INVALID_VALUE", "variant must be video, thumbnail or spritesheet", "variant")
        if task.state != "succeeded":
            raise Refusal("NOT_FOUND", f"the video is {STATES[task.state]}, and has no content yet")
        if variant == "video":
            answer = task.outcome.answer
            assert answer is not None
            return StreamingResponse(await desk.video_stream(task), media_type=answer.format)
        still = thumbnail if variant == "thumbnail" else spritesheet
        picture = await asyncio.to_thread(still, await desk.video_bytes(task))
        return Response(picture, media_type="image/jpeg")

    @router.post("/{video_id}/remix")
    async def remix(request: Request, video_id: str) -> Response:
        caller = caller_of(request, desk)
        task = await desk.get_own(video_id, caller, NAME)
        body = await read_body(request, 1_000_000)
        fields = json_object(body)
        try:
            prompt = Remix.model_validate(fields).prompt
        except ValidationError as error:
            raise body_fault(error, Remix) from None
        wire = {**task.order.request, "prompt": prompt, **await desk.pictures(task)}
        request_again, warnings = parse_request(wire)
        draft = Draft(
            request_again,
            model=task.order.model,
            warnings=(*unknown_fields(fields, Remix), *warnings),
            retention_s=RETENTION_S,
            extras={**task.order.extras, "prompt": prompt, "remixed_from": task.id},
        )
        return JSONResponse(
            render(await desk.submit(NAME, draft, caller, submit_of(request, body))), headers=POLL_AFTER
        )

    return router
