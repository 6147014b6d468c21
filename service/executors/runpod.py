"""A RunPod endpoint with the project's worker: its own queue has the jobs, this executor looks after them.

    python -m service.executors.runpod

prints `ready <executor id>`.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import Field, ValidationError, field_validator

from ..contract.errors import JobError
from ..contract.failure import Failure
from ..contract.progress import Progress
from ..contract.video_answer import VideoAnswer
from ..environment_settings import Hosts
from ..media.addresses import TrustedHosts
from ..media.guarded_http import dialled_url
from ..store.object_store import Content, ObjectStore
from ..store.open_store import open_store
from ..store.signed_paths import PathSigner
from ..tasks.database import database_url
from ..tasks.names import FILES_PATH, RUNPOD_QUEUE
from ..tasks.task import Order, Outcome, Video
from .backend import Begun
from .bucket_video import fetched
from .executor import Executor
from .narrator import Narrator
from .pictures import whole_request
from .record import Record
from .result import draw, keep, remove
from .runpod_endpoint import MAX_BODY, Pause, RunpodEndpoint, UnknownJobError
from .settings import ExecutorSettings, told_errors

KIND = "runpod"
LINK_S = 24 * 3600.0  # RunPod forgets a job after that
STORE_S = 120.0
MIN_TTL_S = 10.0
MAX_MB = MAX_BODY // 1_000_000
_SUFFIXES = {"video/mp4": ".mp4", "video/webm": ".webm"}


class RunpodSettings(ExecutorSettings):
    """Which endpoint, and what it may lead this executor to."""

    url: str = Field(alias="WAN_RELAY_RUNPOD_URL", description="`https://api.runpod.ai/v2/<endpoint id>`")
    key: str = Field("", alias="WAN_RELAY_RUNPOD_KEY", description="RunPod's API key", repr=False)
    trusted_hosts: Hosts = Field(
        TrustedHosts(),
        alias="WAN_RELAY_RUNPOD_BUCKET_HOSTS",
        description="`host[:port], …` of the endpoint's own bucket, where that is not a public address",
    )

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        return str(dialled_url(value))


class RunpodBackend:
    """Submits, asks how it goes, and brings the video home into the object store."""

    def __init__(self, settings: RunpodSettings, store: ObjectStore) -> None:
        self._settings = settings
        self._store = store
        self._endpoint = RunpodEndpoint(settings.url, settings.key)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        """Jobs that RunPod has go on: whoever takes up their tasks asks for them."""
        await self._endpoint.close()

    async def begin(self, task_id: str, order: Order) -> Begun:
        begun = draw(order)
        request = (await whole_request(order, self._store, begun["seed"])).to_wire()
        body = _body(request, order)
        if len(body) > MAX_BODY and self._settings.public_url and self._settings.link_secret:
            body = _body(self._with_links(request, order), order)
        if len(body) > MAX_BODY:
            sentence = f"the request has {len(body) / 1e6:.1f} MB with its pictures, and RunPod takes {MAX_MB} MB"
            raise JobError("IMAGE_TOO_LARGE", sentence, next(iter(order.pictures), None))
        return {**begun, "job": await self._endpoint.submit(body)}

    def _with_links(self, request: dict[str, Any], order: Order) -> dict[str, Any]:
        """The stored pictures behind links to the gateway."""
        fields = {name: value for name, value in request.items() if name not in order.pictures}
        links = {name.replace("base64", "url"): self._link(key) for name, key in order.pictures.items()}
        return fields | links

    def _link(self, key: str) -> str:
        assert self._settings.public_url
        assert self._settings.link_secret
        path = FILES_PATH + key
        query = PathSigner(self._settings.link_secret.encode()).sign(path, time.time() + LINK_S)
        return f"{self._settings.public_url.rstrip('/')}{path}?{query}"

    async def render(self, task_id: str, order: Order, record: Record, begun: Begun) -> Outcome:
        narrator = Narrator(record)
        output = await self._finished(begun["job"], narrator)
        known = {name: output[name] for name in VideoAnswer.model_fields if name in output}
        try:
            answer = VideoAnswer.model_validate(known)
            suffix = _SUFFIXES[answer.format]
        except (ValidationError, KeyError):
            sentence = "the RunPod endpoint's answer is not one of the project's worker"
            raise JobError("NO_OUTPUT", sentence) from None
        narrator.stage("saving")
        video = await self._home(task_id, begun, suffix, answer)
        narrator.log("video saved")
        fields = answer.model_fields_set - {"video", "video_url"}
        return Outcome(answer=VideoAnswer(**{name: getattr(answer, name) for name in fields}), video=video)

    async def discard(self, task_id: str, begun: Begun) -> None:
        with contextlib.suppress(JobError):
            await self._endpoint.cancel(begun["job"])
        await remove(self._store, task_id, begun)

    async def _finished(self, job_id: str, narrator: Narrator) -> dict[str, Any]:
        """The output of a job that is COMPLETED. Raises JobError for every other end."""
        pause, seen, is_taken = Pause(), None, False
        narrator.stage("waiting", "queued at RunPod")
        while True:
            try:
                body = await self._endpoint.status(job_id)
            except UnknownJobError:
                raise JobError("BACKEND_UNAVAILABLE", "RunPod does not know the job any more") from None
            state, output = body.get("status"), body.get("output")
            if state == "COMPLETED":
                if not isinstance(output, dict):
                    raise JobError("NO_OUTPUT", "RunPod completed the job without a result; it may have been too large")
                return output
            if state in ("FAILED", "CANCELLED", "TIMED_OUT"):
                raise _ended(state, body.get("error"))
            if state == "IN_PROGRESS":
                if not is_taken:
                    is_taken = True
                    narrator.stage("loading", "a worker at RunPod has it")
                _heard(output, narrator)
            if seen != (state, output):
                seen = (state, output)
                pause.reset()
            await pause.wait()

    async def _home(self, task_id: str, begun: Begun, suffix: str, answer: VideoAnswer) -> Video:
        def kept(content: Callable[[], Content]) -> Awaitable[Video]:
            return keep(self._store, task_id, begun, suffix, content, answer.format, STORE_S)

        if answer.video_url is not None:
            return await fetched(answer.video_url, self._settings.trusted_hosts, kept)
        if answer.video is None:
            raise JobError("NO_OUTPUT", "the RunPod endpoint's answer has no video")
        try:
            content = await asyncio.to_thread(base64.b64decode, answer.video, validate=True)
        except ValueError:
            raise JobError("NO_OUTPUT", "the video in the RunPod endpoint's answer is not base64") from None
        return await kept(lambda: content)


def _body(request: dict[str, Any], order: Order) -> bytes:
    """With the task's deadline: RunPod itself gives up a job that nobody waits for, also where no executor is left."""
    policy = {} if order.deadline_s is None else {"policy": {"ttl": round(max(MIN_TTL_S, order.deadline_s) * 1000)}}
    return json.dumps({"input": request, **policy}, allow_nan=False).encode()


def _heard(output: Any, narrator: Narrator) -> None:
    with contextlib.suppress(ValidationError):
        narrator.heard(Progress.model_validate(output))


def _ended(state: str, error: Any) -> JobError:
    if state == "CANCELLED":
        return JobError("INTERRUPTED", "the job was cancelled at RunPod")
    if state == "TIMED_OUT":
        return JobError("TIMEOUT", "the job ran longer than the RunPod endpoint lets one run")
    failure = Failure.parse(error) if isinstance(error, str) and error else None
    if failure is None:
        return JobError("INTERNAL_ERROR", "RunPod says that the job failed, and not why")
    return JobError(failure.code, failure.sentence, failure.field)


def main() -> None:
    with told_errors():
        settings = RunpodSettings.from_environment()
        store = open_store(settings.store, **settings.store_options)
        url = database_url(settings.database)
    executor_id = settings.id_for(KIND)
    executor = Executor(url, executor_id, RUNPOD_QUEUE, RunpodBackend(settings, store), {"kind": KIND})
    executor.run_process()


if __name__ == "__main__":
    main()
