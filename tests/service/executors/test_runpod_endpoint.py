"""The executor for a RunPod endpoint, against an endpoint that behaves badly."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from wan_relay.service.contract.errors import JobError
from wan_relay.service.executors import runpod_endpoint
from wan_relay.service.executors.runpod import RunpodBackend, RunpodSettings
from wan_relay.service.executors.runpod_endpoint import RunpodEndpoint
from wan_relay.service.store.open_store import open_store
from wan_relay.service.store.signed_paths import PathSigner
from wan_relay.service.tasks.task import Order
from wan_relay.tests.service.executors.deployment import png
from wan_relay.tests.service.executors.test_narrator import Heard

VIDEO = b"\x00\x00\x00\x20ftypisom" + bytes(500_000)
ANSWER = {
    "seed": 1,
    "width": 64,
    "height": 64,
    "length": 5,
    "fps": 16,
    "duration": 0.3125,
    "workflow": "wan22_t2v_4step",
    "format": "video/mp4",
    "warnings": [],
    "timings": {},
}
SECRET = "a secret of the links"


class Endpoint:
    """Answers each call with the next of its list: a status and a body, or "lost" (heard, and no answer)."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.bodies: list[Any] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.split("/")[1]
        self.calls.append(request.path)
        if kind == "run":
            self.bodies.append(await request.json())
        if kind not in ("run", "status", "cancel", "bucket"):
            raise web.HTTPNotFound
        left = self.answers[kind]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer == "lost":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if answer == "half":
            response = web.StreamResponse(headers={"Content-Length": str(len(VIDEO))})
            await response.prepare(request)
            await response.write(VIDEO[:1000])
            assert request.transport is not None
            request.transport.close()
            return response
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        status, body = answer
        if callable(body):
            body = await body()
        return web.json_response(body, status=status)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Endpoint"]:
        app = web.Application(client_max_size=20_000_000)
        app.router.add_route("*", "/{tail:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod_endpoint, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(runpod_endpoint, "MAX_PAUSE_S", 0.02)


def play(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def order(**changes: Any) -> Order:
    request = {"prompt": "a cat", "workflow": "wan22_t2v_4step", **changes.pop("request", {})}
    return Order(dialect="test", owner="me", request=request, retention_s=1, **changes)


def rendered(endpoint: Endpoint, folder: Path, what: Order | None = None, **variables: str) -> Any:
    """(outcome or failure, what was said, the store's files) of one order."""
    heard = Heard()

    async def main() -> Any:
        async with endpoint.serving():
            if "WAN_RELAY_RUNPOD_BUCKET_HOSTS" in variables:
                variables["WAN_RELAY_RUNPOD_BUCKET_HOSTS"] = urlsplit(endpoint.url).netloc
            settings = RunpodSettings.from_environment({"WAN_RELAY_RUNPOD_URL": endpoint.url, **variables})
            store = open_store(str(folder / "objects"))
            await store.put("uploads/large.png", png() + bytes(8_000_000), "image/png")
            backend = RunpodBackend(settings, store)
            endpoint.answers = {
                kind: [put_url(answer, endpoint.url) for answer in answers]
                for kind, answers in endpoint.answers.items()
            }
            try:
                begun = await backend.begin("t", what or order())
                outcome = await backend.render("t", what or order(), heard, begun)
                assert outcome.video.key == f"results/t/{begun['name']}.mp4"
                return outcome, await store.get(outcome.video.key)
            except JobError as error:
                return str(error), None
            finally:
                await backend.stop()

    outcome, content = play(main())
    return outcome, content, heard.lines


def put_url(answer: Any, url: str) -> Any:
    return json.loads(json.dumps(answer).replace("URL", url)) if isinstance(answer, list | tuple) else answer


def completed(**output: Any) -> list[Any]:
    return [200, {"id": "j1", "status": "COMPLETED", "output": {**ANSWER, **output}}]


RUN = [200, {"id": "j1", "status": "IN_QUEUE"}]
INLINE = completed(video=base64.b64encode(VIDEO).decode())


def running(step: int) -> list[Any]:
    progress = {"stage": "sampling", "step": step, "steps": 4, "progress": step / 4, "expert": "high_noise"}
    return [200, {"id": "j1", "status": "IN_PROGRESS", "output": progress}]


def test_what_passes_by_itself_costs_no_job(tmp_path: Path) -> None:
    bad = [[429, {}], [500, {}], [503, {}], "lost", [200, "no object"]]
    endpoint = Endpoint(run=[*bad, RUN], status=[*bad, RUN, *bad, running(1), *bad, running(1), running(3), INLINE])
    outcome, content, said = rendered(endpoint, tmp_path)
    assert content == VIDEO
    assert outcome.answer.to_wire() == {**ANSWER, "timings": {}}
    assert said == [
        "queued at RunPod",
        "a worker at RunPod has it",
        "high-noise expert, step 1 of 4",
        "high-noise expert, step 3 of 4",
        "saving the video",
        "video saved",
    ]
    assert {json.dumps(body) for body in endpoint.bodies} == {json.dumps(endpoint.bodies[0])}, "the same seed each time"
    assert endpoint.bodies[0]["input"]["seed"] >= 0


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            [200, {"status": "FAILED", "error": "OUT_OF_RANGE: steps must be from 1 to 50, got 99 (steps)"}],
            "OUT_OF_RANGE: steps must be from 1 to 50, got 99 (steps)",
        ),
        ([200, {"status": "FAILED", "error": "boom in /secret/place.py"}], "INTERNAL_ERROR: boom in place.py"),
        (
            [200, {"status": "FAILED", "error": {"a": 1}}],
            "INTERNAL_ERROR: RunPod says that the job failed, and not why",
        ),
        ([200, {"status": "CANCELLED"}], "INTERRUPTED: the job was cancelled at RunPod"),
        (
            [200, {"status": "TIMED_OUT", "error": "x"}],
            "TIMEOUT: the job ran longer than the RunPod endpoint lets one run",
        ),
        (
            [200, {"status": "COMPLETED"}],
            "NO_OUTPUT: RunPod completed the job without a result; it may have been too large",
        ),
        (completed(), "NO_OUTPUT: the RunPod endpoint's answer has no video"),
        (completed(video="&&&"), "NO_OUTPUT: the video in the RunPod endpoint's answer is not base64"),
        (
            [200, {"status": "COMPLETED", "output": {"message": "hello"}}],
            "NO_OUTPUT: the RunPod endpoint's answer is not one of the project's worker",
        ),
        ([404, {}], "BACKEND_UNAVAILABLE: RunPod does not know the job any more"),
        ([401, {}], "BACKEND_UNAVAILABLE: the RunPod endpoint does not let the gateway's executor in"),
    ],
)
def test_every_other_end_of_a_job(tmp_path: Path, status: list[Any], sentence: str) -> None:
    assert rendered(Endpoint(run=[RUN], status=[status]), tmp_path)[0] == sentence


def test_an_endpoint_that_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod_endpoint, "SUBMIT_S", 0.1)
    sentence = "BACKEND_UNAVAILABLE: the RunPod endpoint answered with HTTP 503 for 0.1 s"
    assert rendered(Endpoint(run=[[503, {}]]), tmp_path)[0] == sentence


def test_a_video_in_the_endpoints_bucket(tmp_path: Path) -> None:
    by_url = completed(video_url="URL/bucket/x.mp4")
    answers = {"run": [RUN], "status": [by_url]}
    hosts = {"WAN_RELAY_RUNPOD_BUCKET_HOSTS": "its own"}
    outcome, content, _ = rendered(Endpoint(**answers, bucket=["half", "lost", VIDEO]), tmp_path, **hosts)
    assert content == VIDEO
    assert "video_url" not in outcome.answer.to_wire()
    outcome, _, _ = rendered(Endpoint(**answers, bucket=[VIDEO]), tmp_path)
    assert (
        outcome == "UPLOAD_FAILED: the video could not be fetched from the endpoint's bucket: its host is not allowed"
    )
    outcome, _, _ = rendered(Endpoint(**answers, bucket=[[403, {}]]), tmp_path, **hosts)
    assert outcome == "UPLOAD_FAILED: the video could not be fetched from the endpoint's bucket: it answered HTTP 403"
    assert len([path for path in (tmp_path / "objects" / "results").rglob("*") if path.is_file()]) == 1


def test_pictures_that_are_too_large_for_a_call(tmp_path: Path) -> None:
    what = order(pictures={"image_base64": "uploads/large.png"}, request={"workflow": "wan22_i2v_4step"})
    outcome, _, _ = rendered(Endpoint(run=[RUN], status=[INLINE]), tmp_path, what)
    expected = "IMAGE_TOO_LARGE: the request has 10.7 MB with its pictures, and RunPod takes 10 MB (image_base64)"
    assert outcome == expected
    endpoint = Endpoint(run=[RUN], status=[INLINE])
    here = {"WAN_RELAY_PUBLIC_URL": "https://video.example.com/", "WAN_RELAY_LINK_SECRET": SECRET}
    _, content, _ = rendered(endpoint, tmp_path, what, **here)
    assert content == VIDEO
    link = urlsplit(endpoint.bodies[0]["input"]["image_url"])
    assert "image_base64" not in endpoint.bodies[0]["input"]
    assert (link.netloc, link.path) == ("video.example.com", "/files/uploads/large.png")
    PathSigner(SECRET.encode()).check(link.path, link.query, "GET", 0.0)


def test_a_deadline_is_told_to_runpod(tmp_path: Path) -> None:
    endpoint = Endpoint(run=[RUN], status=[INLINE])
    rendered(endpoint, tmp_path, order(deadline_s=90.0))
    assert endpoint.bodies[0]["policy"] == {"ttl": 90_000}


def test_a_submit_that_is_cancelled_leaves_no_job() -> None:
    async def main() -> list[str]:
        is_heard = asyncio.Event()

        async def slowly() -> dict[str, Any]:
            is_heard.set()
            await asyncio.sleep(0.3)
            return {"id": "j1", "status": "IN_QUEUE"}

        answers: dict[str, list[Any]] = {"run": [(200, slowly)], "cancel": [[200, {"id": "j1"}]]}
        async with Endpoint(**answers).serving() as served:
            endpoint = RunpodEndpoint(served.url, "key")
            submit = asyncio.create_task(endpoint.submit(b'{"input": {}}'))
            await is_heard.wait()
            submit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submit
            await endpoint.close()
            return served.calls

    assert play(main()) == ["/run", "/cancel/j1"]


def test_the_key_is_sent_and_never_to_another_host() -> None:
    seen: list[Callable[[], Any] | str] = []

    async def main() -> None:
        async def redirect(request: web.Request) -> web.Response:
            seen.append(request.headers.get("Authorization", ""))
            raise web.HTTPFound("http://localhost:1/elsewhere")

        runner = web.ServerRunner(web.Server(redirect))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = RunpodEndpoint(f"http://127.0.0.1:{runner.addresses[0][1]}", "my-key")
        try:
            with pytest.raises(JobError, match="refused the call \\(HTTP 302\\)"):
                await endpoint.status("j1")
        finally:
            await endpoint.close()
            await runner.cleanup()

    play(main())
    assert seen == ["Bearer my-key"]
