"""Every error that a client can see: a stable code and one sentence.

`CODES` is the public list (worker/README.md prints it); a JobError with any other code cannot be made.
"""

import re

CODES: dict[str, str] = {
    "INVALID_INPUT": "`input` is not an object, or ComfyUI refused the request as a whole.",
    "MISSING_FIELD": "A field that is needed was not sent, was null or was blank.",
    "INVALID_TYPE": "A field has the wrong JSON type.",
    "INVALID_VALUE": "A field has a value that is not one of those allowed.",
    "OUT_OF_RANGE": "A number is outside its range, or width x height x length is over the worker's budget.",
    "CONFLICT": "Two fields exclude each other, or the workflow has no use for an image that was sent.",
    "UNKNOWN_FIELD": "A field is not known and `strict` was true.",
    "PROMPT_TOO_LONG": "A prompt is longer than the cap.",
    "INVALID_IMAGE": "The image cannot be decoded, or is not PNG, JPEG, WebP, GIF, BMP or TIFF.",
    "IMAGE_TOO_LARGE": "The image has too many bytes or pixels.",
    "IMAGE_TOO_SMALL": "The image has a side that is too short, or an extreme aspect ratio.",
    "INVALID_URL": "The URL is not a plain http(s) URL.",
    "BLOCKED_URL": "The URL leads to a host that is neither public nor trusted by the operator, or carries a password.",
    "DOWNLOAD_FAILED": "The server of the URL did not answer with a file.",
    "DOWNLOAD_TIMEOUT": "The download took longer than its deadline.",
    "INVALID_PATH": "The path is not inside the network volume, or is not a regular file.",
    "FILE_NOT_FOUND": "There is no such file on the network volume.",
    "MODEL_MISSING": "A model file that the workflow names is not on this worker.",
    "MODEL_REFUSED": "A model file is there, but is not what the workflow needs.",
    "NODE_MISSING": "The worker's ComfyUI lacks a node of the workflow.",
    "EXECUTION_FAILED": "ComfyUI stopped at a node; the sentence carries its own message.",
    "OUT_OF_MEMORY": "The size does not fit the GPU.",
    "GPU_ERROR": "The GPU is in a bad state; the worker is replaced. Retry.",
    "COMFYUI_UNAVAILABLE": "ComfyUI did not start, or does not answer; the worker is replaced. Retry.",
    "COMFYUI_CRASHED": "ComfyUI died, also when tried again; the worker is replaced. Retry with a smaller size.",
    "INTERRUPTED": "Somebody interrupted the job inside ComfyUI.",
    "TIMEOUT": "The job ran longer than the worker's deadline.",
    "NO_OUTPUT": "ComfyUI finished without a video.",
    "RESULT_TOO_LARGE": "The video does not fit the platform's answer, and no bucket is configured.",
    "UPLOAD_FAILED": "The bucket did not take the video, and the answer cannot carry it.",
    "DISK_FULL": "The worker's disk is full; the worker is replaced. Retry.",
    "INTERNAL_ERROR": "A fault of the worker itself; its log says more under the same job id.",
}

RETRYABLE = frozenset(
    {
        "DOWNLOAD_FAILED",
        "DOWNLOAD_TIMEOUT",
        "GPU_ERROR",
        "COMFYUI_UNAVAILABLE",
        "COMFYUI_CRASHED",
        "INTERRUPTED",
        "UPLOAD_FAILED",
        "DISK_FULL",
        "INTERNAL_ERROR",
    }
)

MAX_SENTENCE = 600
MAX_READ = 10_000
_PATH = re.compile(r"(?<![\w:/])(?:/(?:[^/\s'\":,;()\[\]]+/)+|[A-Za-z]:\\(?:[^\\\s'\"]+\\)+)(?=[^\s'\"]*)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}")
_SECRET = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|rpa|hf|ghp|AKIA)[_-]?[A-Za-z0-9]{16,})")


class JobError(Exception):
    """The job fails with `CODE: sentence (field)`; `refresh_worker` asks the platform for a fresh worker."""

    def __init__(self, code: str, sentence: str, field: str | None = None, *, refresh_worker: bool = False) -> None:
        if code not in CODES:
            raise ValueError(f"{code} is not one of the public error codes")
        self.code = code
        self.sentence = public_text(sentence)
        self.field = field
        self.refresh_worker = refresh_worker
        super().__init__(str(self))

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}" + (f" ({self.field})" if self.field else "")


def public_text(text: str) -> str:
    """One line that is safe to show: no folder names, base64, keys or control characters, and not endless.

    Of a path only the last part stays, since a model's file name is what the reader needs.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_READ]).split())
    line = _SECRET.sub("[removed]", line)
    line = _PATH.sub("", line)
    line = _BASE64.sub("[data]", line)
    return line if len(line) <= MAX_SENTENCE else line[: MAX_SENTENCE - 1].rstrip() + "…"
