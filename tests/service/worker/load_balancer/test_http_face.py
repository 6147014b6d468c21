"""The HTTP of a Load Balancer endpoint's worker, by a real server in this loop, over a fake ComfyUI."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import uvicorn
from wan_relay.service.worker.load_balancer.http_face import HttpFace, wanted_form
from wan_relay.tests.service.media.fake_s3 import FakeS3
from wan_relay.tests.service.worker.conftest import Bench

BUCKET = {"BUCKET_ACCESS_KEY_ID": "id", "BUCKET_SECRET_ACCESS_KEY": "secret", "BUCKET_NAME": "videos"}


@dataclass
class Caller:
    bench: Bench
    client: aiohttp.ClientSession
    lost: list[bool] = field(default_factory=list)

    async def post(self, accept: str = "application/json", **fields: Any) -> tuple[int, Any, bytes]:
        """(status, headers, body) of one request."""
        body = {"input": self.bench.job(**fields)["input"]}
        headers = {"Accept": accept}
        async with self.client.post("/video", json=body, headers=headers, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    async def ping(self) -> tuple[int, Any]:
        async with self.client.get("/ping") as response:
            body = await response.read()
            return response.status, json.loads(body) if body else None

    async def ready(self) -> None:
        while (await self.ping())[0] != 200:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(bench: Bench) -> AsyncIterator[Caller]:
    lost: list[bool] = []
    face = HttpFace(bench.worker, lambda: lost.append(True))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(face.application(), log_config=None, lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    bench.worker.process.start()
    task = asyncio.create_task(server._serve([listener]))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with aiohttp.ClientSession(base_url) as client:
            yield Caller(bench, client, lost)
    finally:
        server.should_exit = True
        await task


def play(bench: Bench, scenario: Callable[[Caller], Awaitable[None]], timeout_s: float = 60) -> None:
    async def main() -> None:
        async with serving(bench) as caller:
            await scenario(caller)

    bench.play(main(), timeout_s)


def events_in(text: bytes) -> list[tuple[str, Any]]:
    found = []
    for block in text.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_ping_is_204_until_comfyui_answers(bench: Bench) -> None:
    bench.configure(faults={"GET /prompt": ["status:503", 3]})

    async def scenario(caller: Caller) -> None:
        assert await caller.ping() == (204, None)
        await caller.ready()
        assert await caller.ping() == (200, {"status": "ready", "deadline_s": 50})

    play(bench, scenario)


def test_ping_brings_a_comfyui_back_that_ended(bench: Bench) -> None:
    async def scenario(caller: Caller) -> None:
        await caller.ready()
        bench.worker.process.kill()
        assert (await caller.ping())[0] == 204
        await caller.ready()
        assert bench.worker.process.starts == 2

    play(bench, scenario)


def test_comfyui_that_never_starts_makes_the_worker_unhealthy(make_bench: Any, tmp_path: Any) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "main.py").write_text("raise SystemExit('no torch')\n")
    bench = make_bench(COMFYUI_PATH=tmp_path / "broken")

    async def scenario(caller: Caller) -> None:
        while (answer := await caller.ping())[0] == 204:
            await asyncio.sleep(0.05)
        assert answer == (503, {"status": "unhealthy", "deadline_s": 50})
        assert caller.lost == [True]
        status, _, body = await caller.post()
        assert (status, json.loads(body)["error"].partition(":")[0]) == (503, "COMFYUI_UNAVAILABLE")

    play(bench, scenario)


def test_the_same_input_gives_json_or_the_file(bench: Bench) -> None:
    video = (bench.folder / "video.mp4").read_bytes()

    async def scenario(caller: Caller) -> None:
        status, headers, body = await caller.post(seed=5)
        answer = json.loads(body)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert (answer["seed"], base64.b64decode(answer["video"])) == (5, video)
        status, headers, body = await caller.post("video/mp4", seed=6)
        assert (status, headers["content-type"], headers["x-wan-relay-seed"], body) == (200, "video/mp4", "6", video)
        status, headers, body = await caller.post("video/mp4", seeds=[1, 2])
        assert (status, headers["content-type"]) == (200, "application/json")
        assert [each["seed"] for each in json.loads(body)["videos"]] == [1, 2]
        async with caller.client.post("/video", json={"input": {"action": "ping"}}) as response:
            assert (await response.json())["status"] == "ready"

    play(bench, scenario)
    assert bench.left_files() == []


def test_a_file_in_the_bucket_is_pointed_at(make_bench: Any) -> None:
    s3 = FakeS3()

    async def main() -> None:
        async with s3.serving() as endpoint:
            bench = make_bench(BUCKET_ENDPOINT_URL=endpoint, **BUCKET)
            async with serving(bench) as caller:
                status, headers, _ = await caller.post("video/*", delivery="url")
                assert status == 303
                assert headers["location"].startswith(endpoint)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_second_request_is_told_when_to_come_again(bench: Bench) -> None:
    bench.configure(step_s=0.3)

    async def scenario(caller: Caller) -> None:
        await caller.ready()
        first = asyncio.create_task(caller.post(steps=8))
        while (await caller.ping())[1]["status"] != "busy":
            await asyncio.sleep(0.02)
        status, headers, body = await caller.post()
        assert json.loads(body) == {
            "error": "WORKER_BUSY: this worker makes one video at a time, and has a request already"
        }
        assert status == 429
        assert 1 <= int(headers["retry-after"]) <= 50
        assert (await first)[0] == 200
        assert (await caller.post())[0] == 200

    play(bench, scenario)


def test_events_tell_the_deadline_first_and_the_answer_last(bench: Bench) -> None:
    bench.configure(step_s=0.02)

    async def scenario(caller: Caller) -> None:
        status, headers, body = await caller.post("text/event-stream", seeds=[1, 2])
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        events = events_in(body)
        assert [name for name, _ in events] == ["accepted"] + ["progress"] * (len(events) - 2) + ["result"]
        assert events[0][1]["deadline_s"] == 50
        told = [data for name, data in events if name == "progress"]
        shares = [each["progress"] for each in told]
        assert shares == sorted(shares)
        assert {each["stage"] for each in told} == {"waiting", "loading", "sampling", "decoding", "saving"}
        assert {(each["video"], each["videos"]) for each in told} == {(1, 2), (2, 2)}
        assert [each["seed"] for each in events[-1][1]["output"]["videos"]] == [1, 2]
        refused = events_in((await caller.post("text/event-stream", width=1))[2])
        sentence = "OUT_OF_RANGE: width must be from 64 to 2048, got 1 (width)"
        assert refused[1:] == [("error", {"error": sentence, "status": 400})]

    play(bench, scenario)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_caller_who_leaves_ends_the_job(make_bench: Any, accept: str) -> None:
    bench = make_bench(WAN_RELAY_JOB_TIMEOUT_S=900)  # longer than this test waits

    async def scenario(caller: Caller) -> None:
        await caller.ready()
        bench.configure(faults={"sampling": ["hang", 1]})
        task = asyncio.create_task(caller.post(accept))
        while '"sampling": ["hang", 1]' in (bench.run_folder / "fake.json").read_text():
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while (await caller.ping())[1]["status"] == "busy":
            await asyncio.sleep(0.02)
        assert bench.left_files() == []
        assert (await caller.post())[0] == 200

    play(bench, scenario)
    assert bench.worker.process.starts == 1


def test_a_deadline_is_504(make_bench: Any) -> None:
    bench = make_bench(WAN_RELAY_JOB_TIMEOUT_S=3)

    async def scenario(caller: Caller) -> None:
        await caller.ready()
        bench.configure(faults={"sampling": ["hang", 1]})
        status, _, body = await caller.post()
        sentence = "TIMEOUT: the job did not finish within 3 s; lower the size or the steps"
        assert (status, json.loads(body)) == (504, {"error": sentence})

    play(bench, scenario)


def test_a_worker_to_be_replaced_says_so_to_the_balancer(bench: Bench) -> None:
    bench.configure(faults={"queued": ["error:RuntimeError:CUDA error: an illegal memory access was encountered", 1]})

    async def scenario(caller: Caller) -> None:
        await caller.ready()
        status, _, body = await caller.post()
        assert (status, json.loads(body)["error"].partition(":")[0]) == (503, "GPU_ERROR")
        assert caller.lost == [True]
        assert (await caller.ping())[0] == 503

    play(bench, scenario)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "sentence"),
    [
        (b"{}", "text/plain", 400, "INVALID_INPUT: the body must come as Content-Type: application/json"),
        (b"{", "application/json", 400, "INVALID_INPUT: the body is not JSON"),
        (b"[]", "application/json", 400, "INVALID_INPUT: the body must be a JSON object with an input (input)"),
        (b"{}", "application/json", 400, "INVALID_INPUT: the body must be a JSON object with an input (input)"),
        (b'{"input": 3}', "application/json", 400, "INVALID_INPUT: input must be an object, got a number (input)"),
        (b" " * 30_000_001, "application/json", 413, "BODY_TOO_LARGE: the body must be at most 30 MB"),
    ],
)
def test_a_body_that_is_none_is_one_sentence(
    bench: Bench, content: bytes, content_type: str, status: int, sentence: str
) -> None:
    async def scenario(caller: Caller) -> None:
        headers = {"Content-Type": content_type}
        async with caller.client.post("/video", data=content, headers=headers) as response:
            assert (response.status, await response.json()) == (status, {"error": sentence})

    play(bench, scenario)


def test_another_address_or_method(bench: Bench) -> None:
    async def scenario(caller: Caller) -> None:
        for method, path, status in (("GET", "/video", 405), ("GET", "/", 404), ("POST", "/ping", 405)):
            async with caller.client.request(method, path) as response:
                assert response.status == status
                assert (await response.json())["error"].endswith(": this worker takes GET /ping and POST /video")

    play(bench, scenario)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html, application/json", "application/json"),
        ("video/mp4;q=0.9, */*", "video"),
        ("application/json, video/mp4", "application/json"),
        ("Text/Event-Stream", "text/event-stream"),
    ],
)
def test_the_first_type_that_there_is(accept: str, form: str) -> None:
    assert wanted_form(accept) == form
