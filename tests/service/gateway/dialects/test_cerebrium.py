"""Cerebrium: seed 2's ranges, answers and errors, and its client against a running gateway."""

import asyncio
import base64
import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import CODES, Failure
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.gateway.dialects import cerebrium
from wan_relay.service.gateway.http import dialect_app
from wan_relay.service.gateway.keys import ANYBODY
from wan_relay.service.gateway.refusal import Refusal
from wan_relay.service.tasks.task import Order, Outcome, Task, Video
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.gateway.webhook_receiver import receiving
from wan_relay.tests.waiting import wait_until

PATH = "/p-194bc83f/wan22-ti2v/predict"
URL = "https://example.com/image.jpg"
SEEDS_BODY = {
    "prompt": "A beautiful sunset over a calm ocean",
    "negative_prompt": "low quality, blurry",
    "height": 704,
    "width": 1280,
    "num_frames": 121,
    "num_inference_steps": 30,
    "guidance_scale": 7.5,
    "fps": 24,
    "seed": 42,
}
SMALL = {"prompt": "a sunset", "width": 64, "height": 64, "num_frames": 25, "num_inference_steps": 1}


def refusal(**fields: Any) -> Failure:
    with pytest.raises(JobError) as caught:
        cerebrium.parse({"prompt": "x", **fields})
    return caught.value.failure


def task(state: str = "succeeded", is_wrapped: bool = False, **fields: Any) -> Task:
    draft = cerebrium.parse(SEEDS_BODY, None, is_wrapped)
    order = Order(
        dialect="cerebrium",
        owner="me",
        request=draft.request.to_wire(),
        warnings=fields.pop("warnings", ()),
        retention_s=draft.retention_s,
        extras=draft.extras,
    )
    times = {"created_at_s": 1000.0, "started_at_s": 1001.0, "finished_at_s": 1004.5}
    return Task(id="t-1", state=state, order=order, **times | fields)


ANSWER = VideoAnswer(
    seed=42,
    width=1280,
    height=704,
    length=121,
    fps=24,
    duration=5.0417,
    workflow="wan22_ti2v_5b",
    steps=30,
    high_noise_cfg=7.5,
    low_noise_cfg=7.5,
    format="video/mp4",
    warnings=[],
    timings=Timings(total_s=2.25),
)


def test_the_seeds_own_body() -> None:
    draft = cerebrium.parse(SEEDS_BODY)
    assert draft.request.to_wire() == {
        "workflow": "wan22_ti2v_5b",
        "prompt": "A beautiful sunset over a calm ocean",
        "negative_prompt": "low quality, blurry",
        "width": 1280,
        "height": 704,
        "length": 121,
        "steps": 30,
        "cfg": 7.5,
        "fps": 24,
        "seed": 42,
    }
    assert draft.warnings == ()


def test_the_defaults() -> None:
    assert cerebrium.parse({"prompt": "x"}).request.to_wire() == {
        "workflow": "wan22_ti2v_5b",
        "prompt": "x",
        "negative_prompt": "",
        "width": 1280,
        "height": 704,
        "length": 121,
        "steps": 50,
        "cfg": 5.0,
        "fps": 24,
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image_url": URL}, {"image_url": URL}),
        ({"image_base64": PICTURE}, {"image_base64": PICTURE}),
        ({"image_base64": PICTURE.partition(",")[2]}, {"image_base64": PICTURE.partition(",")[2]}),
        ({"image_url": PICTURE}, {"image_base64": PICTURE, "image_url": None}),
        ({"image_url": "", "image_base64": ""}, {"image_url": None, "image_base64": None}),
        ({"num_frames": 25}, {"length": 25}),
        ({"num_inference_steps": 100}, {"steps": 100}),
        ({"guidance_scale": 1}, {"cfg": 1.0}),
        ({"guidance_scale": 20.0}, {"cfg": 20.0}),
        ({"width": 2048, "height": 2048}, {"width": 2048, "height": 2048}),
        ({"fps": 60}, {"fps": 60}),
        ({"seed": None}, {"seed": None}),
        ({"seed": 2**64 - 1}, {"seed": 2**64 - 1}),
    ],
)
def test_each_value(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    draft = cerebrium.parse({"prompt": "x", **fields})
    assert {name: draft.request.to_wire().get(name) for name in expected} == expected
    assert draft.warnings == ()


@pytest.mark.parametrize(
    ("fields", "expected", "warning"),
    [
        ({"width": 32}, {"width": 64}, "width 32 is less than can be made; it was raised to 64"),
        ({"height": 63}, {"height": 64}, "height 63 is less than can be made; it was raised to 64"),
        (
            {"seed": -1},
            {"seed": 2**64 - 1},
            "seed -1 is negative; it was taken modulo 2^64, as 18446744073709551615",
        ),
        (
            {"image_url": URL, "image_base64": PICTURE},
            {"image_url": URL, "image_base64": None},
            "image_base64 was ignored because image_url came too",
        ),
        ({"model_id": "secret-value"}, {}, "field model_id is not known and was ignored"),
        ({"use_cpu_offload": True}, {}, "field use_cpu_offload is not known and was ignored"),
    ],
)
def test_what_cannot_be_honoured_is_said(fields: dict[str, Any], expected: dict[str, Any], warning: str) -> None:
    draft = cerebrium.parse({"prompt": "x", **fields})
    assert {name: draft.request.to_wire().get(name) for name in expected} == expected
    assert draft.warnings == (warning,)


NUM_FRAMES = "num_frames must be from 25 to 121 and of the form 4n+1 (25, 29, … 121)"


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        ({"prompt": None}, "MISSING_FIELD", "prompt is needed"),
        ({"prompt": " "}, "MISSING_FIELD", "prompt is needed"),
        ({"prompt": ["4", 0]}, "INVALID_TYPE", "prompt must be a string"),
        ({"num_frames": 82}, "OUT_OF_RANGE", NUM_FRAMES),
        ({"num_frames": 21}, "OUT_OF_RANGE", NUM_FRAMES),
        ({"num_frames": 125}, "OUT_OF_RANGE", NUM_FRAMES),
        ({"num_frames": "many"}, "INVALID_TYPE", "num_frames must be a whole number"),
        ({"num_inference_steps": 0}, "OUT_OF_RANGE", "num_inference_steps must be from 1 to 100"),
        ({"num_inference_steps": 101}, "OUT_OF_RANGE", "num_inference_steps must be from 1 to 100"),
        ({"guidance_scale": 0.5}, "OUT_OF_RANGE", "guidance_scale must be from 1 to 20"),
        ({"guidance_scale": 20.5}, "OUT_OF_RANGE", "guidance_scale must be from 1 to 20"),
        ({"guidance_scale": "NaN"}, "INVALID_VALUE", "guidance_scale must be a finite number"),
        ({"width": 31}, "OUT_OF_RANGE", "width must be from 32 to 2048"),
        ({"height": 2049}, "OUT_OF_RANGE", "height must be from 32 to 2048"),
        ({"fps": 0}, "OUT_OF_RANGE", "fps must be from 1 to 60"),
        ({"fps": 61}, "OUT_OF_RANGE", "fps must be from 1 to 60"),
        ({"seed": 2**64}, "OUT_OF_RANGE", "seed must be from -9.22337e+18 to 18446744073709551615"),
        ({"seed": "x"}, "INVALID_TYPE", "seed must be a whole number"),
        ({"image_url": 3}, "INVALID_TYPE", "image_url must be a string"),
    ],
)
def test_the_words_of_a_refusal(fields: dict[str, Any], code: str, sentence: str) -> None:
    expected = {"error": f"Invalid payload: {sentence}", "code": code}
    assert cerebrium.reject(refusal(**fields), "r") == (400, expected)


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("UNAUTHORIZED", 401, "Unauthorized"),
        ("INVALID_IMAGE", 400, "Invalid payload"),
        ("OUT_OF_MEMORY", 400, "Invalid payload"),
        ("NOT_FOUND", 404, "Not Found"),
        ("METHOD_NOT_ALLOWED", 405, "Method Not Allowed"),
        ("BODY_TOO_LARGE", 413, "Request Entity Too Large"),
        ("QUEUE_FULL", 429, "Too Many Requests"),
        ("GPU_ERROR", 500, "Internal server error"),
        ("TIMEOUT", 500, "Internal server error"),
        ("CANCELLED", 500, "Internal server error"),
        ("STORE_FULL", 500, "Internal server error"),
        ("INTERNAL_ERROR", 500, "Internal server error"),
    ],
)
def test_the_seeds_codes(code: str, status: int, words: str) -> None:
    expected = {"error": f"{words}: why", "code": code}
    assert cerebrium.reject(Failure(code=code, sentence="why"), "r") == (status, expected)


def test_a_failure_names_fields_as_the_client_does() -> None:
    failure = Failure(code="OUT_OF_RANGE", sentence="lower num_steps or image_base64", field="length")
    assert cerebrium.reject(failure, "")[1]["error"] == "Invalid payload: lower num_steps or image_base64"
    assert {cerebrium.reject(Failure(code=code, sentence="x"), "")[0] for code in CODES} <= {
        400,
        401,
        404,
        405,
        413,
        429,
        500,
    }


def whole(answered: Task, video: bytes) -> Any:
    async def read() -> bytes:
        size, pieces = cerebrium._body(answered, video)
        content = b"".join([piece async for piece in pieces])
        assert len(content) == size
        return content

    return json.loads(asyncio.run(read()))


@pytest.mark.parametrize("size", [0, 1, 2, 3, cerebrium.PIECE, cerebrium.PIECE + 1, 3 * cerebrium.PIECE - 2])
def test_the_answer_is_the_seeds_in_pieces(size: int) -> None:
    video = bytes(range(256)) * (size // 256) + bytes(size % 256)
    done = task(outcome=Outcome(answer=ANSWER, video=Video(key="k", size=size)))
    answer = whole(done, video)
    assert base64.b64decode(answer.pop("video_base64"), validate=True) == video
    assert answer == {"details": SEEDS_BODY}
    assert list(answer["details"]) == list(SEEDS_BODY)


def test_the_platforms_own_wrapping() -> None:
    done = task(is_wrapped=True, outcome=Outcome(answer=ANSWER, video=Video(key="k", size=4)))
    assert whole(done, b"mp4!") == {
        "run_id": "t-1",
        "run_time_ms": 2250,
        "result": {"video_base64": "bXA0IQ==", "details": SEEDS_BODY},
    }
    failure = Failure(code="GPU_ERROR", sentence="bad state")
    failed = task("failed", is_wrapped=True, outcome=Outcome(failure=failure))
    status, content = cerebrium._failed(failed, failure)
    error = {"error": "Internal server error: bad state", "code": "GPU_ERROR"}
    assert (status, json.loads(content)) == (500, {"run_id": "t-1", "run_time_ms": 4500, "result": error})


class OneTask:
    """A desk that knows one task."""

    def __init__(self, known: Task, video: bytes | None) -> None:
        self.known = known
        self.video = video

    def caller(self, _: str | None) -> Any:
        return ANYBODY

    async def submit(self, *_: Any) -> Task:
        return self.known

    async def wait(self, _: str, __: Any, timeout_s: float) -> Task:
        assert timeout_s > 15 * 60
        return self.known

    async def video_bytes(self, _: Task) -> bytes:
        if self.video is None:
            raise Refusal("NOT_FOUND", "the video is kept no longer")
        return self.video


def test_fifty_megabytes_are_streamed() -> None:
    """Piece by piece: what is sent at a time stays small."""
    video = bytes(40_000_000)
    desk: Any = OneTask(task(outcome=Outcome(answer=ANSWER, video=Video(key="k", size=len(video)))), video)
    sent: list[dict[str, Any]] = []

    async def call() -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/p/a/predict",
            "query_string": b"",
            "headers": [(b"host", b"gateway")],
            "scheme": "http",
            "server": ("gateway", 80),
        }

        coming = [{"type": "http.request", "body": json.dumps(SMALL).encode()}]

        async def receive() -> dict[str, Any]:
            if not coming:
                await asyncio.Event().wait()
            return coming.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await dialect_app(cerebrium, desk)(scope, receive, send)

    asyncio.run(call())
    assert sent[0]["status"] == 200
    pieces = [message.get("body", b"") for message in sent[1:]]
    assert max(map(len, pieces)) <= 4 * cerebrium.PIECE // 3
    content = b"".join(pieces)
    assert int(dict(sent[0]["headers"])[b"content-length"]) == len(content) > 50_000_000
    assert base64.b64decode(json.loads(content)["video_base64"]) == video


def test_a_webhook_that_is_told_too_late_for_the_video_says_so() -> None:
    desk: Any = OneTask(task(outcome=Outcome(answer=ANSWER, video=Video(key="k", size=3))), None)
    content, _ = asyncio.run(cerebrium.webhook(desk.known, desk))
    assert json.loads(content) == {"error": "Not Found: the video is kept no longer", "code": "NOT_FOUND"}


def test_warnings_are_in_the_details() -> None:
    answer = ANSWER.model_copy(update={"warnings": ["of the worker"]})
    done = task(warnings=("of the gateway",), outcome=Outcome(answer=answer, video=Video(key="k", size=1)))
    assert cerebrium.render(done)["warnings"] == ["of the gateway", "of the worker"]


@pytest.fixture
def client(stand: Stand) -> httpx.Client:
    return stand.client(prefix="/cerebrium/v4")


def test_a_video_from_words_alone(client: httpx.Client) -> None:
    answer = client.post(PATH, json=SMALL)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert set(said) == {"video_base64", "details"}
    assert base64.b64decode(said["video_base64"], validate=True)[4:8] == b"ftyp"
    details = said["details"]
    seed = details.pop("seed")
    assert 0 <= seed < 2**53
    assert details == {
        "prompt": "a sunset",
        "negative_prompt": "",
        "height": 64,
        "width": 64,
        "num_frames": 25,
        "num_inference_steps": 1,
        "guidance_scale": 5.0,
        "fps": 24,
    }


def test_a_video_from_a_picture(client: httpx.Client) -> None:
    answer = client.post(PATH, json={**SMALL, "image_base64": PICTURE, "seed": 5, "model_id": "x"})
    details = answer.json()["details"]
    assert (answer.status_code, details["seed"]) == (200, 5)
    assert details["warnings"] == ["field model_id is not known and was ignored"]


def test_a_large_video_comes_whole(client: httpx.Client) -> None:
    with client.stream("POST", PATH, json={**SMALL, "width": 2048, "height": 2048}) as answer:
        content = b"".join(answer.iter_bytes())
    assert len(content) == int(answer.headers["content-length"]) > 1_000_000
    video = base64.b64decode(json.loads(content)["video_base64"], validate=True)
    assert video[4:8] == b"ftyp"


def test_the_wrapped_form(client: httpx.Client) -> None:
    said = client.post(PATH, params={"wrapped": "true"}, json=SMALL).json()
    assert set(said) == {"run_id", "run_time_ms", "result"}
    assert set(said["result"]) == {"video_base64", "details"}
    assert said["run_time_ms"] == 100


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [("GPU_ERROR", 500, "Internal server error"), ("INVALID_IMAGE", 400, "Invalid payload")],
)
def test_a_job_that_fails(client: httpx.Client, code: str, status: int, words: str) -> None:
    answer = client.post(PATH, json={**SMALL, "prompt": f"fail {code}"})
    assert (answer.status_code, answer.json()) == (status, {"error": f"{words}: the prompt asked for it", "code": code})


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("POST", PATH, b"{", 400, "Invalid payload: the body is not JSON"),
        ("POST", PATH, b"[]", 400, "Invalid payload: the body must be a JSON object"),
        (
            "POST",
            PATH,
            b'{"prompt": "x", "num_frames": 82}',
            400,
            f"Invalid payload: {NUM_FRAMES}",
        ),
        ("POST", f"{PATH}?async=maybe", b"{}", 400, "Invalid payload: async must be true or false"),
        (
            "POST",
            f"{PATH}?webhookEndpoint=ftp://x",
            b'{"prompt": "x"}',
            400,
            "Invalid payload: webhookEndpoint must be an http or https URL",
        ),
        ("POST", PATH.replace("predict", "train"), b"{}", 404, "Not Found: there is nothing at this address"),
        ("GET", PATH, None, 405, "Method Not Allowed: GET is not what this address takes"),
    ],
)
def test_other_calls_are_refused_in_words(
    client: httpx.Client, method: str, path: str, content: bytes | None, status: int, error: str
) -> None:
    answer = client.request(method, path, content=content)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_the_webhook_gets_what_the_caller_gets(client: httpx.Client) -> None:
    with receiving() as receiver:
        for wrapped in ("false", "true"):
            answer = client.post(PATH, params={"webhookEndpoint": receiver.url, "wrapped": wrapped}, json=SMALL)
            assert answer.status_code == 200
            wait_until(lambda: receiver.bodies)
            assert receiver.bodies.pop() == answer.json()
        failing = {**SMALL, "prompt": "fail GPU_ERROR"}
        answer = client.post(PATH, params={"webhookEndpoint": receiver.url}, json=failing)
        wait_until(lambda: receiver.bodies)
        assert (answer.status_code, receiver.bodies.pop()) == (500, answer.json())


def test_async_is_answered_at_once_and_told_later(client: httpx.Client) -> None:
    with receiving() as receiver:
        query = {"webhookEndpoint": receiver.url, "async": "true"}
        answer = client.post(PATH, params=query, json={**SMALL, "prompt": "slow 1"})
        assert answer.status_code == 202
        assert set(answer.json()) == {"run_id"}
        assert receiver.bodies == []
        wait_until(lambda: receiver.bodies)
        assert base64.b64decode(receiver.bodies[0]["video_base64"])[4:8] == b"ftyp"


def test_async_without_a_webhook_says_that_nobody_is_told(client: httpx.Client) -> None:
    answer = client.post(PATH, params={"async": "true"}, json=SMALL)
    assert answer.status_code == 202
    assert answer.json()["warnings"] == ["async=true without webhookEndpoint=URL: the video is sent to nobody"]


def test_a_webhook_that_is_not_there_is_tried_again_and_one_that_refuses_is_not(client: httpx.Client) -> None:
    with receiving(404, 200) as receiver, receiving(500, 200) as refusing:
        for each in (refusing, receiver):
            query = {"webhookEndpoint": each.url, "async": "true"}
            assert client.post(PATH, params=query, json=SMALL).status_code == 202
        wait_until(lambda: len(receiver.bodies) == 2)
        assert receiver.bodies[0] == receiver.bodies[1]
        assert len(refusing.bodies) == 1


def test_a_client_that_goes_does_not_lose_its_job(client: httpx.Client, stand: Stand) -> None:
    """The job goes on, and the same call again, while it is at work, gets its video: the seed that was drawn is one."""
    body = {**SMALL, "prompt": "slow 4"}
    with receiving() as receiver:
        query = {"webhookEndpoint": receiver.url}
        path = str(httpx.URL(PATH, params=query))
        content = json.dumps(body).encode()
        head = f"POST /cerebrium/v4{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", stand.port)) as connection:
            connection.sendall(head.encode() + content)
            time.sleep(1)
        answer = client.post(path, content=content)
        assert answer.status_code == 200
        wait_until(lambda: receiver.bodies)
        assert receiver.bodies == [answer.json()]


def test_equal_calls_at_once_are_as_many_videos(client: httpx.Client) -> None:
    seeds: list[int] = []

    def call() -> None:
        seeds.append(client.post(PATH, json={**SMALL, "prompt": "slow 0.4"}).json()["details"]["seed"])

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seeds)) == 3


def test_nothing_else_was_said_to_standard_error(stand: Stand) -> None:
    lines = stand.errors("service.gateway").splitlines()
    assert [line for line in lines if '"event": "webhook"' not in line] == []
