"""Why a job has no video: a stable code, one sentence, and the field that it is about.

`CODES` is the public list (service/worker/README.md prints it). On RunPod's wire a failure is the text
`CODE: sentence (field)`; `Failure.parse` reads it back.
"""

import re
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, field_validator

from .public_text import public_text


class Code(NamedTuple):
    """What a code says: the status that an HTTP front end answers with, its meaning, whether a second try can help."""

    http_status: int
    meaning: str
    is_retryable: bool = False
    is_the_gateways: bool = False


CODES: dict[str, Code] = {
    "INVALID_INPUT": Code(400, "`input` is not an object, or ComfyUI refused the request as a whole."),
    "MISSING_FIELD": Code(400, "A field that is needed was not sent, was null or was blank."),
    "INVALID_TYPE": Code(400, "A field has the wrong JSON type."),
    "INVALID_VALUE": Code(400, "A field has a value that is not one of those allowed."),
    "OUT_OF_RANGE": Code(400, "A number is outside its range, or width x height x length is over the worker's budget."),
    "CONFLICT": Code(400, "Two fields exclude each other, or the workflow has no use for an image that was sent."),
    "UNKNOWN_FIELD": Code(400, "A field is not known and `strict` was true."),
    "PROMPT_TOO_LONG": Code(400, "A prompt is longer than the cap."),
    "INVALID_IMAGE": Code(422, "The image cannot be decoded, or is not PNG, JPEG, WebP, GIF, BMP or TIFF."),
    "IMAGE_TOO_LARGE": Code(422, "The image has too many bytes or pixels."),
    "IMAGE_TOO_SMALL": Code(422, "The image has a side that is too short, or an extreme aspect ratio."),
    "INVALID_URL": Code(400, "The URL is not a plain http(s) URL."),
    "BLOCKED_URL": Code(
        422,
        "The URL leads to a host that is not public and not trusted, or none that LoRAs may come from, or carries a "
        "password.",
    ),
    "DOWNLOAD_FAILED": Code(422, "The server of the URL did not answer with a file.", is_retryable=True),
    "DOWNLOAD_TIMEOUT": Code(422, "The download took longer than its deadline.", is_retryable=True),
    "INVALID_LORA": Code(422, "What a LoRA's URL leads to is no safetensors file, or too large."),
    "INVALID_PATH": Code(
        422, "The path leads out of the network volume or the job's folders, or is not a regular file."
    ),
    "FILE_NOT_FOUND": Code(422, "There is no such file on the network volume."),
    "MODEL_MISSING": Code(500, "A model file that the workflow names is not on this worker."),
    "MODEL_REFUSED": Code(500, "A model file is there, but is not what the workflow needs."),
    "NODE_MISSING": Code(500, "The worker's ComfyUI lacks a node of the workflow."),
    "EXECUTION_FAILED": Code(500, "ComfyUI stopped at a node; the sentence carries its own message."),
    "OUT_OF_MEMORY": Code(422, "The size does not fit the GPU."),
    "GPU_ERROR": Code(503, "The GPU is in a bad state; the worker is replaced.", is_retryable=True),
    "COMFYUI_UNAVAILABLE": Code(
        503, "ComfyUI did not start, or does not answer; the worker is replaced.", is_retryable=True
    ),
    "COMFYUI_CRASHED": Code(
        503, "ComfyUI died, also when tried again; the worker is replaced. Try a smaller size.", is_retryable=True
    ),
    "INTERRUPTED": Code(503, "Somebody interrupted the job inside ComfyUI.", is_retryable=True),
    "TIMEOUT": Code(504, "The job ran longer than the worker's deadline."),
    "NO_OUTPUT": Code(500, "ComfyUI finished without a video, or without a file that its nodes told of."),
    "RESULT_TOO_LARGE": Code(500, "The video does not fit the platform's answer, and no bucket is configured."),
    "UPLOAD_FAILED": Code(502, "The bucket did not take the video, and the answer cannot carry it.", is_retryable=True),
    "DISK_FULL": Code(503, "The worker's disk is full; the worker is replaced.", is_retryable=True),
    "WORKER_BUSY": Code(
        429,
        "A worker of a Load Balancer endpoint has a request already; `Retry-After` says when to come again.",
        is_retryable=True,
    ),
    "UNAUTHORIZED": Code(401, "No key came, or one that is not known here.", is_the_gateways=True),
    "NOT_FOUND": Code(404, "There is no such task, file or address for this key.", is_the_gateways=True),
    "METHOD_NOT_ALLOWED": Code(405, "The address takes other methods.", is_the_gateways=True),
    "ALREADY_FINISHED": Code(409, "The task has ended, and cannot be cancelled.", is_the_gateways=True),
    "CANCELLED": Code(409, "The task was cancelled.", is_the_gateways=True),
    "BODY_TOO_LARGE": Code(413, "The request's body is larger than the gateway takes.", is_the_gateways=True),
    "RATE_LIMITED": Code(429, "This key made too many requests in a minute.", is_the_gateways=True),
    "QUEUE_FULL": Code(429, "This key has as many tasks waiting as it may have.", is_the_gateways=True),
    "QUEUE_UNAVAILABLE": Code(
        503,
        "The gateway's database does not answer, or the gateway is stopping.",
        is_retryable=True,
        is_the_gateways=True,
    ),
    "STORE_FULL": Code(507, "The gateway's object store is full.", is_retryable=True, is_the_gateways=True),
    "STORE_UNAVAILABLE": Code(
        503, "The gateway's object store does not answer.", is_retryable=True, is_the_gateways=True
    ),
    "BACKEND_UNAVAILABLE": Code(
        503,
        "The endpoint that the gateway has its videos from does not answer.",
        is_retryable=True,
        is_the_gateways=True,
    ),
    "INTERNAL_ERROR": Code(
        500, "A fault of the worker itself; its log says more under the same job id.", is_retryable=True
    ),
}

_ON_THE_WIRE = re.compile(r"(?P<code>[A-Z]+(?:_[A-Z]+)*): (?P<sentence>.*?)(?: \((?P<field>[^() ]+)\))?", re.DOTALL)


class Failure(BaseModel):
    """One of `CODES`, a sentence that is safe to show, and perhaps a field. A ValueError for any other code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    sentence: str
    field: str | None = None

    @field_validator("code")
    @classmethod
    def _is_public(cls, code: str) -> str:
        if code not in CODES:
            raise ValueError(f"{code} is not one of the public error codes")
        return code

    @field_validator("sentence")
    @classmethod
    def _is_safe(cls, sentence: str) -> str:
        return public_text(sentence)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `CODE: sentence (field)`; any other text is an INTERNAL_ERROR that says it."""
        match = _ON_THE_WIRE.fullmatch(text)
        if match and match["code"] in CODES:
            return cls(**match.groupdict())
        return cls(code="INTERNAL_ERROR", sentence=text)

    @property
    def is_retryable(self) -> bool:
        return CODES[self.code].is_retryable

    @property
    def http_status(self) -> int:
        return CODES[self.code].http_status

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}" + (f" ({self.field})" if self.field else "")
