"""Runway's API, `/runway/v1`: what its official SDKs send, and the task objects that they tell apart by their fields.

The contract is `providers.md` section 4 and seed 4. Credits are always 0: the GPUs are one's own.
"""

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...contract.failure import Failure
from ...contract.scalars import text
from ...contract.video_request import parse_request
from ...tasks.task import Task
from ..body_fault import in_words_of
from ..desk import Desk
from ..draft import Draft
from ..http import base_url, caller_of, json_object, read_body, read_form, submit_of
from ..refusal import Refusal
from ..uploads import FOLDER, new_upload_id, safe_name

NAME = "runway"
PREFIX = "/runway"
RETENTION_S = 24 * 3600.0
VERSION = "2024-11-06"
DOCS = "https://docs.dev.runwayml.com/errors/errors"
FPS = 16
SHIFT = 5.0
MAX_PROMPT_UNITS = 1000
MAX_JSON_BYTES = 40_000_000
UPLOAD_S = 24 * 3600.0
NO_PROMPT = "The scene comes to life with natural motion."

# width and height in pixels, as each model family spells them
RATIOS = ("1280:720", "720:1280", "1104:832", "832:1104", "960:960", "1584:672")
WAN_RATIOS = ("832:480", "480:832", "624:624", "1280:720", "720:1280", "1104:832", "832:1104", "960:960")
AUTO_RATIOS = {"auto_480p": "480p", "auto_720p": "720p"}
# model of the client -> workflow for a picture, workflow for words alone
MODELS: dict[str, tuple[str, str]] = dict.fromkeys(
    ("gen4_turbo", "gen4.5", "wan3", "wan3_prime"), ("wan22_i2v_4step", "wan22_t2v_4step")
)

_BAD_PICTURE = {"INVALID_IMAGE", "IMAGE_TOO_LARGE", "IMAGE_TOO_SMALL", "DOWNLOAD_FAILED", "DOWNLOAD_TIMEOUT"}
_BAD_PICTURE |= {"INVALID_URL", "BLOCKED_URL"}

# a `runway://` URI -> the gateway's own link to that upload, None where there is none
UploadUrl = Callable[[str], str | None]


class InvalidBody(Exception):
    """Carries the issues of a body, as the provider lists them."""

    def __init__(self, issues: list[dict[str, Any]]) -> None:
        self.issues = issues
        super().__init__("Validation of body failed")


def _prompt_text(value: object) -> object:
    if isinstance(value, str) and not 1 <= len(value.encode("utf-16-le", "surrogatepass")) // 2 <= MAX_PROMPT_UNITS:
        raise PydanticCustomError("too_big", f"String must contain 1 to {MAX_PROMPT_UNITS} UTF-16 code units")
    return text(value)


class KeyFrame(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    uri: str
    position: Literal["first", "last"] = "first"


def _key_frames(value: object) -> object:
    return [{"uri": value}] if isinstance(value, str) else value


PromptText = Annotated[str, BeforeValidator(_prompt_text)]
PromptImage = Annotated[list[KeyFrame], BeforeValidator(_key_frames), Field(min_length=1, max_length=2)]


class TextToVideo(BaseModel):
    """The body of text_to_video. A field that is null is not one that was left out."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    model: str
    prompt_text: PromptText
    ratio: str
    duration: int = Field(5, ge=2, le=10)
    seed: int = Field(default_factory=lambda: secrets.randbelow(2**32), ge=0, le=4294967295)
    watermark: bool = False
    content_moderation: dict[str, Any] = {}


class ImageToVideo(TextToVideo):
    """The body of image_to_video."""

    prompt_text: PromptText = NO_PROMPT
    prompt_image: PromptImage


def parse(body: dict[str, Any], upload_url: UploadUrl, models: Callable[[str], tuple[str, str] | None]) -> Draft:
    """Of image_to_video. `models` are the workflows of a model's name, for a picture and for words.

    Raises InvalidBody, JobError.
    """
    return _draft(_checked(ImageToVideo, body), upload_url, models)


def parse_text(body: dict[str, Any], models: Callable[[str], tuple[str, str] | None]) -> Draft:
    """Of text_to_video. Raises InvalidBody, JobError."""
    return _draft(_checked(TextToVideo, body), lambda uri: None, models)


def _checked(kind: type[TextToVideo], body: dict[str, Any]) -> TextToVideo:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise InvalidBody(_issues(error)) from None


def _draft(order: TextToVideo, upload_url: UploadUrl, models: Callable[[str], tuple[str, str] | None]) -> Draft:
    frames = order.prompt_image if isinstance(order, ImageToVideo) else []
    workflows = models(order.model)
    if workflows is None:
        raise InvalidBody(
            [_issue("invalid_union_discriminator", ["model"], f"Model variant {_shown(order.model)} is not available")]
        )
    warnings = ["this gateway adds no watermark"] if order.watermark else []
    wire: dict[str, Any] = {
        "workflow": workflows[0] if frames else workflows[1],
        "prompt": order.prompt_text,
        **_size(order),
        "length": order.duration * FPS + 1,
        "fps": FPS,
        "shift": SHIFT,
        "seed": order.seed,
        **_pictures(frames, upload_url),
    }
    request, more = parse_request(wire)
    return Draft(request, model=order.model, warnings=(*warnings, *more), retention_s=RETENTION_S)


def _size(order: TextToVideo) -> dict[str, Any]:
    is_wan = order.model.startswith("wan")
    if is_wan and order.ratio in AUTO_RATIOS:
        return {"resolution": AUTO_RATIOS[order.ratio], "aspect_ratio": "auto"}
    known = WAN_RATIOS if is_wan else RATIOS
    if order.ratio not in known:
        choices = (*known, *AUTO_RATIOS) if is_wan else known
        raise InvalidBody([_issue("invalid_enum_value", ["ratio"], f"`ratio` must be one of: {', '.join(choices)}")])
    width, height = map(int, order.ratio.split(":"))
    return {"width": width, "height": height}


def _pictures(frames: list[KeyFrame], upload_url: UploadUrl) -> dict[str, str]:
    if len({frame.position for frame in frames}) < len(frames):
        raise InvalidBody([_issue("custom", ["promptImage"], "Each position may be given once")])
    found = {}
    for n, frame in enumerate(frames):
        prefix = "image" if frame.position == "first" else "end_image"
        uri = frame.uri.strip()
        if uri.startswith("runway://"):
            if (url := upload_url(uri)) is None:
                message = "Must be the URI of an upload to this gateway that has not expired"
                raise InvalidBody([_issue("custom", ["promptImage", n, "uri"], message)])
            found[f"{prefix}_url"] = url
        elif re.match(r"data:image/", uri, re.IGNORECASE):
            found[f"{prefix}_base64"] = uri
        elif uri[:8].lower().startswith(("https://", "http://")):
            found[f"{prefix}_url"] = uri
        else:
            message = "Must be an HTTPS URL, a runway:// URI or a data URI of an image"
            raise InvalidBody([_issue("custom", ["promptImage", n, "uri"], message)])
    return found


def _issues(error: ValidationError) -> list[dict[str, Any]]:
    """Every fault of a body, in the provider's codes; names of keys that are not known are not repeated."""
    faults = error.errors(include_url=False)
    known = [
        _issue(_code(fault), list(fault["loc"]), _message(fault))
        for fault in faults
        if fault["type"] != "extra_forbidden"
    ]
    if len(known) < len(faults):
        known.append(_issue("unrecognized_keys", [], "Unrecognized key(s) in object"))
    return known


def _code(fault: ErrorDetails) -> str:
    kind = fault["type"]
    if kind in ("missing", "INVALID_TYPE") or kind.endswith("_type"):
        return "invalid_type"
    return {
        "greater_than_equal": "too_small",
        "less_than_equal": "too_big",
        "too_short": "too_small",
        "too_long": "too_big",
        "too_big": "too_big",
        "literal_error": "invalid_enum_value",
    }.get(kind, "custom")


def _message(fault: ErrorDetails) -> str:
    return "Required" if fault["type"] == "missing" else str(fault["msg"])


def _issue(code: str, path: list[str | int], message: str) -> dict[str, Any]:
    return {"code": code, "path": path, "message": message}


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]{1,40}", name) else "of that name"


def render(task: Task, video_url: str | None) -> dict[str, Any]:
    """The task object; which of the SDK's classes it becomes hangs on `estimatedCost` and `cost`. `warnings` is the one
    field that is the gateway's own.
    """
    shown: dict[str, Any] = {
        "id": task.id,
        "createdAt": datetime.fromtimestamp(task.created_at_s, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "status": {
            "throttled": "THROTTLED",
            "queued": "PENDING",
            "running": "RUNNING",
            "succeeded": "SUCCEEDED",
            "failed": "FAILED",
            "cancelled": "CANCELLED",
        }[task.state],
    }
    shown["warnings"] = list(task.warnings)
    shown["cost" if task.is_final else "estimatedCost"] = {"credits": 0}
    if task.state == "running":
        shown["progress"] = round(task.progress.progress, 3) if task.progress else 0.0
    elif task.state == "succeeded":
        shown["output"] = [video_url] if video_url else []
    elif task.outcome.failure:
        failure = in_words_of(task.outcome.failure, FIELDS)
        shown |= {"failure": failure.sentence, "failureCode": failure_code(failure)}
    return shown


def failure_code(failure: Failure) -> str:
    if failure.code in _BAD_PICTURE:
        return "ASSET.INVALID"
    return "INTERNAL.BAD_OUTPUT" if failure.code in ("NO_OUTPUT", "RESULT_TOO_LARGE") else "INTERNAL"


def reject(failure: Failure, request_id: str) -> tuple[int, dict[str, Any]]:
    """Faults of fields become issues, all else is one sentence."""
    if failure.field and failure.http_status in (400, 422):
        path = FIELDS.get(failure.field, failure.field)
        return 400, _invalid([_issue("custom", [path], in_words_of(failure, FIELDS).sentence)])
    return (409 if failure.code == "CANCELLED" else failure.http_status), {"error": failure.sentence}


FIELDS = {"image_base64": "promptImage", "image_url": "promptImage", "image": "promptImage", "prompt": "promptText"}
FIELDS |= {"end_image_base64": "promptImage", "end_image_url": "promptImage"}


def _invalid(issues: list[dict[str, Any]]) -> dict[str, Any]:
    return {"error": "Validation of body failed", "issues": issues, "docUrl": DOCS}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1")

    def models(name: str) -> tuple[str, str] | None:
        return desk.models.get(name, MODELS.get(name))

    def check_version(request: Request) -> None:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", request.headers.get("x-runway-version", "")):
            raise Refusal("INVALID_INPUT", f"The X-Runway-Version header is required, such as {VERSION}")

    def upload_url(request: Request, uri: str) -> str | None:
        base = desk.links.base(base_url(request))
        url = f"{base}/files/{uri.removeprefix('runway://')}"
        return url if desk.links.key_of(url, [base.partition("://")[2]]) else None

    async def submit(request: Request, draft_of: Callable[[dict[str, Any]], Draft]) -> Response:
        caller = caller_of(request, desk)
        check_version(request)
        body = await read_body(request, MAX_JSON_BYTES)
        try:
            draft = draft_of(json_object(body))
        except InvalidBody as error:
            return JSONResponse(_invalid(error.issues), 400)
        task = await desk.submit(NAME, draft, caller, submit_of(request, body))
        return JSONResponse({"id": task.id, "estimatedCost": {"credits": 0}})

    @router.post("/image_to_video")
    async def image_to_video(request: Request) -> Response:
        return await submit(request, lambda body: parse(body, lambda uri: upload_url(request, uri), models))

    @router.post("/text_to_video")
    async def text_to_video(request: Request) -> Response:
        return await submit(request, lambda body: parse_text(body, models))

    @router.get("/tasks/{task_id}")
    async def task(request: Request, task_id: str) -> Response:
        caller = caller_of(request, desk)
        check_version(request)
        found = await desk.get_own(task_id, caller, NAME)
        return JSONResponse(render(found, desk.video_url(found, base_url(request))))

    @router.delete("/tasks/{task_id}")
    async def delete(request: Request, task_id: str) -> Response:
        caller = caller_of(request, desk)
        check_version(request)
        await desk.get_own(task_id, caller, NAME)
        await desk.delete(task_id, caller)
        return Response(status_code=204)

    @router.post("/uploads")
    async def uploads(request: Request) -> Response:
        caller_of(request, desk)
        check_version(request)
        body = json_object(await read_body(request, 100_000))
        name = body.get("filename")
        if not isinstance(name, str) or not 3 <= len(name) <= 255:
            return JSONResponse(
                _invalid([_issue("invalid_type", ["filename"], "Expected a name of 3 to 255 characters")]), 400
            )
        if body.get("type") != "ephemeral":
            return JSONResponse(_invalid([_issue("invalid_enum_value", ["type"], "`type` must be ephemeral")]), 400)
        key = f"{FOLDER}/{new_upload_id()}/{safe_name(name, '')}"
        here = desk.links.base(base_url(request))
        _, _, query = desk.links.upload_link(key, UPLOAD_S, here).partition("?")
        read = desk.links.link(key, UPLOAD_S, here).partition("/files/")[2]
        return JSONResponse(
            {
                "uploadUrl": f"{here}{PREFIX}/v1/uploads/{key.removeprefix(f'{FOLDER}/')}?{query}",
                "fields": {"key": key},
                "runwayUri": f"runway://{read}",
            }
        )

    @router.post("/uploads/{folder}/{name}")
    async def upload(request: Request, folder: str, name: str) -> Response:
        """The form that `uploadUrl` takes: the fields, then the part `file`; its query is its permission."""
        key = f"{FOLDER}/{folder}/{name}"
        desk.check_upload(key, request.url.query)
        async with read_form(request, desk.max_upload_bytes, max_files=1, max_part_size=100_000) as form:
            part = form.get("file")
            if part is None or isinstance(part, str):
                raise Refusal("MISSING_FIELD", "The form has no part named file", "file")
            content = await part.read()
        await desk.keep(key, content, part.content_type or "application/octet-stream")
        return Response(status_code=204)

    return router
